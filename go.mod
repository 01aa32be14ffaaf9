module github.com/raceproof/raceproof

go 1.26.0

require github.com/jmoiron/sqlx v1.4.0

require github.com/mattn/go-sqlite3 v1.14.53 // indirect
