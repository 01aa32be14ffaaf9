package racetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// Driver returns a [Scenario].Open for a registered driver, by the name and the DSN that sql.Open takes.
func Driver(name, dsn string) func() (driver.Connector, error) {
	return func() (driver.Connector, error) {
		db, err := sql.Open(name, dsn) // connects to nothing
		if err != nil {
			return nil, err
		}
		d := db.Driver()
		if err := db.Close(); err != nil {
			return nil, err
		}
		if d, ok := d.(driver.DriverContext); ok {
			return d.OpenConnector(dsn)
		}
		return dsnConnector{d, dsn}, nil
	}
}

// dsnConnector is for drivers that make no connectors.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }
