// Package ledgertest starts databases for tests.
package ledgertest
