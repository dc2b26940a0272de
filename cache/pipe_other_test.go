//go:build !unix

package cache_test

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
