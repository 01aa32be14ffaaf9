// Package lease seizes a named row for a while.
package lease
