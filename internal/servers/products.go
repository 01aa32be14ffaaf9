//go:build unix

package servers

import (
	"cmp"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
)

// A product is what differs between the kinds.
type product struct {
	creator, server string // binaries, with their paths once they are found
	together        bool   // both must be from one folder: the creator runs the server of its own version
	places          string // where the binaries are if they are not in PATH
	packages        string // Debian's
	variable        string // for the message
	usualPort       int    // likewise
	user            string // whom the Debian package runs the server as

	createCommand func(*Server) []string
	serveCommand  func(*Server) []string
	pidFile       string // in the folder, the process's number in its first line; there once the server has its port
	greets        func(net.Conn) error
	dsn           func(port int, database string) string

	cleanEnd syscall.Signal // makes the server end, whoever is connected
	fastEnd  syscall.Signal // makes it end at once, but leave nothing behind in the system
}

var products = map[Kind]product{
	Postgres: {
		creator: "initdb", server: "postgres", together: true,
		places: "/usr/lib/postgresql/*/bin", packages: "postgresql", variable: Postgres.Variable(),
		usualPort: 5432, user: "postgres",
		createCommand: func(s *Server) []string {
			return []string{s.creator, "-D", s.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"}
		},
		serveCommand: func(s *Server) []string {
			return []string{s.server, "-D", s.data(), "-p", fmt.Sprint(s.port), "-c", "listen_addresses=127.0.0.1",
				"-c", "unix_socket_directories=", "-c", "max_connections=300"} // a socket's path can be too long
		},
		pidFile: "data/postmaster.pid", greets: postgresGreets,
		dsn: func(port int, database string) string {
			database = cmp.Or(database, "postgres") // one that is always there
			return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", address(port), database)
		},
		cleanEnd: syscall.SIGINT, fastEnd: syscall.SIGQUIT,
	},
	MariaDB: {
		creator: "mariadb-install-db", server: "mariadbd",
		places: "/usr/sbin", packages: "mariadb-server", variable: MariaDB.Variable(),
		usualPort: 3306, user: "mysql",
		createCommand: func(s *Server) []string {
			return []string{s.creator, "--no-defaults", "--datadir=" + s.data(),
				"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"}
		},
		// The character set is the one that Debian configures; the server's own default is latin1.
		serveCommand: func(s *Server) []string {
			return []string{s.server, "--no-defaults", "--datadir=" + s.data(), "--socket=", "--pid-file=" + s.folder + "/pid",
				fmt.Sprintf("--port=%d", s.port), "--bind-address=127.0.0.1", "--skip-name-resolve",
				"--performance-schema=OFF", "--max-connections=300", "--character-set-server=utf8mb4",
				"--collation-server=utf8mb4_general_ci"}
		},
		pidFile: "pid", greets: mariadbGreets,
		dsn: func(port int, database string) string {
			return fmt.Sprintf("root@tcp(%s)/%s", address(port), database)
		},
		cleanEnd: syscall.SIGTERM, fastEnd: syscall.SIGKILL,
	},
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }
