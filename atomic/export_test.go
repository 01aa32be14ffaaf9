package atomic

// Size is size, for the package's tests.
func (c Change) Size() int { return c.size() }
