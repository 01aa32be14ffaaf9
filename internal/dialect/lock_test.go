package dialect_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
)

// Only MariaDB can limit how long a statement waits for a lock. MySQL would not say that it cannot.
func TestServerWithoutLimit(t *testing.T) {
	d, err := dialect.ByName("mysql")
	require.NoError(t, err)
	limited := dialect.Locking{Wait: dialect.Wait{AtMost: time.Second}}
	assert.NoError(t, d.CheckServer(limited, map[string]string{"version": "10.11.19-MariaDB-0+deb12u1"}))
	assert.ErrorContains(t, d.CheckServer(limited, map[string]string{"version": "8.4.3"}), "MySQL 8.4.3 has no limit")
	unwaited := dialect.Locking{Wait: dialect.Wait{None: true}}
	assert.NoError(t, d.CheckServer(unwaited, map[string]string{"version": "8.4.3"}))
	unwaited.Strength = dialect.Share
	assert.ErrorContains(t, d.CheckServer(unwaited, map[string]string{"version": "8.4.3"}), "does not take NOWAIT")
	assert.NoError(t, d.CheckServer(unwaited, map[string]string{"version": "11.4.2-MariaDB"}))
}

func TestLockText(t *testing.T) {
	for name, want := range map[string][3]string{
		"postgres": {" FOR NO KEY UPDATE", ` FOR KEY SHARE OF "players" SKIP LOCKED`, " FOR UPDATE"},
		"mysql":    {" FOR UPDATE", "", " FOR UPDATE WAIT 2"},
		"sqlite":   {},
	} {
		d, err := dialect.ByName(name)
		require.NoError(t, err)
		assert.Equal(t, want[0], d.LockText(dialect.Locking{}, 0), name)
		if want[1] != "" {
			assert.Equal(t, want[1], d.LockText(dialect.Locking{Strength: dialect.KeyShare, Of: "players", SkipLocked: true}, 0), name)
		}
		if want[2] != "" {
			assert.Equal(t, want[2], d.LockText(dialect.Locking{Strength: dialect.Update}, 1001*time.Millisecond), name, "rounded up")
		}
	}
}
