package bsdiff

import (
	"errors"
	"fmt"
)

// What can be wrong with a patch, or with what it is applied to. The errors returned are of type
// [*PatchError]; they match one of these with [errors.Is].
var (
	// ErrFormat means the patch breaks the rules of its format: the updater refuses it as well.
	ErrFormat = errors.New("malformed patch")
	// ErrCorrupt means the patch could be applied, but contradicts itself: its steps give more or fewer
	// bytes than it declares, or leave bytes of it unused. The updater takes such a patch and reports
	// success.
	ErrCorrupt = errors.New("patch contradicts itself")
	// ErrOldSize means the old file does not have the size the patch was made for.
	ErrOldSize = errors.New("old file has another size")
	// ErrOldCRC means the old file does not have the checksum the patch was made for.
	ErrOldCRC = errors.New("old file has another checksum")
	// ErrTooLarge means a file or a patch is larger than the format, or a limit, allows.
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported means that [Options] ask for something that does not exist.
	ErrUnsupported = errors.New("unsupported option")
)

// Error numbers as Mozilla's updater writes them into update.status.
const (
	codeOldSize = 2  // LOADSOURCE_ERROR_WRONG_SIZE
	codeCRC     = 4  // CRC_ERROR
	codeRead    = 6  // READ_ERROR
	codeWrite   = 7  // WRITE_ERROR
	codePatch   = 41 // UNEXPECTED_BSPATCH_ERROR
)

// PatchError says why a patch cannot be read or applied.
type PatchError struct {
	// Err is one of this package's errors, or what a reader or writer returned.
	Err error
	// Detail says what was found and what was expected.
	Detail string
	// Offset is where in the (decompressed) patch the fault is, or -1 where that is not known.
	Offset int64
	// Code is the number Mozilla's updater fails with in the same situation, 0 where it would report
	// success.
	Code int
}

func (e *PatchError) Error() string {
	s := "bsdiff: " + e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" (at byte %d of the patch)", e.Offset)
	}
	return s
}

// Unwrap returns e.Err.
func (e *PatchError) Unwrap() error { return e.Err }

// UpdaterCode returns the number that Mozilla's updater puts behind "failed:" in update.status where this
// package returned err: 2 (size of the old file), 4 (its checksum), 6 (read), 7 (write) or 41 (patch). It
// returns 0 where the updater would not have failed, and for errors that are not a [*PatchError].
func UpdaterCode(err error) int {
	var p *PatchError
	if errors.As(err, &p) {
		return p.Code
	}
	return 0
}

func malformed(offset int64, format string, args ...any) error {
	return &PatchError{Err: ErrFormat, Detail: fmt.Sprintf(format, args...), Offset: offset, Code: codePatch}
}

// contradiction is a fault that the updater does not notice.
func contradiction(offset int64, format string, args ...any) error {
	return &PatchError{Err: ErrCorrupt, Detail: fmt.Sprintf(format, args...), Offset: offset}
}

func tooLarge(offset int64, code int, format string, args ...any) error {
	return &PatchError{Err: ErrTooLarge, Detail: fmt.Sprintf(format, args...), Offset: offset, Code: code}
}
