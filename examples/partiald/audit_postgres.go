package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// restorePostgres dumps the ledger as operators do, restores it into a database of its own on the same server, which is removed
// at the end, and compares the histories. It returns the latest jobs that are done.
func (u *auditor) restorePostgres(ctx context.Context, dir, dsn string) []job.Status {
	for _, program := range []string{"pg_dump", "psql"} {
		if _, err := exec.LookPath(program); err != nil {
			u.unchecked("history", "the ledger is in PostgreSQL, and %s is not here, with which it is backed up and restored (Debian: postgresql-client)", program)
			return nil
		}
	}
	before, err := countJobs(ctx, "pgx", dsn)
	if err != nil && strings.Contains(err.Error(), `"jobs" does not exist`) {
		u.unchecked("history", "there is no ledger yet: the service was never started")
		return nil
	}
	if u.errorOf("history", "look at ledger.postgres, and at the database", err) {
		return nil
	}
	scratch := "partiald_audit_" + strings.ToLower(rand.Text()[:12])
	err = execPostgres(ctx, dsn, "CREATE DATABASE "+scratch)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		u.unchecked("history", "the database's user may not make a database for the drill (ALTER ROLE … CREATEDB lets it): restore a copy that pg_dump made, and look at its history")
		return nil
	}
	if u.errorOf("restore", "look at what PostgreSQL says", err) {
		return nil
	}
	defer func() {
		err := execPostgres(context.WithoutCancel(ctx), dsn, "DROP DATABASE "+scratch+" WITH (FORCE)")
		u.errorOf("restore", "remove the database "+scratch, err)
	}()
	copied := inDatabase(dsn, scratch)
	dump := filepath.Join(dir, "ledger.sql")
	if u.errorOf("backup", "", runPostgres(ctx, dsn, "pg_dump", "--no-owner", "--no-privileges", "--file", dump)) ||
		u.errorOf("restore", "", runPostgres(ctx, copied, "psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--output", os.DevNull, "--file", dump)) {
		return nil
	}
	want, err := countJobs(ctx, "pgx", copied)
	if u.errorOf("restore", "", err) {
		return nil
	}
	if sum(want) < sum(before) {
		u.find(bad, "history", "keep the backups you have, and report this", "%d jobs were there before the backup, and %d are in it", sum(before), sum(want))
		return nil
	}
	c, err := u.scratch(filepath.Join(dir, "restored"))
	if u.errorOf("restore", "", err) {
		return nil
	}
	c.Ledger = config.Ledger{Postgres: config.Secret(copied)}
	return u.compare(ctx, c, want)
}

// execPostgres runs a statement in a database.
func execPostgres(ctx context.Context, dsn, statement string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// runPostgres runs a program of PostgreSQL in a database. Its arguments, which others on this machine can see, have no password.
func runPostgres(ctx context.Context, dsn, program string, args ...string) error {
	parsed, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append(args, "--no-password", "--dbname", withoutPassword(dsn))...)
	cmd.Env = os.Environ()
	if parsed.Password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+parsed.Password)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(said.String())))
	}
	return nil
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// inDatabase returns how to connect to another database of the same server.
func inDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if !isURL(dsn) || err != nil {
		return dsn + " dbname=" + name // the last one counts
	}
	u.Path = "/" + name
	q := u.Query()
	q.Del("dbname")
	u.RawQuery = q.Encode()
	return u.String()
}

var passwordSetting = regexp.MustCompile(`(^|\s)password\s*=\s*('(?:\\.|[^'\\])*'|(?:\\.|\S)*)`)

// withoutPassword returns how to connect, but for the password.
func withoutPassword(dsn string) string {
	u, err := url.Parse(dsn)
	if !isURL(dsn) || err != nil {
		return passwordSetting.ReplaceAllString(dsn, "$1")
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String()
}
