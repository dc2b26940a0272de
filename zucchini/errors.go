package zucchini

import (
	"errors"
	"fmt"
)

// What can be wrong with a patch, or with what it is applied to. The errors returned are of type [*PatchError];
// they match one of these with [errors.Is].
var (
	// ErrFormat means the patch breaks the rules of its container: the updater refuses to read it.
	ErrFormat = errors.New("malformed patch")
	// ErrElement means an element of the patch cannot be applied to its part of the old file: the updater
	// notices that when it has begun to write the new file.
	ErrElement = errors.New("patch does not fit together")
	// ErrCrash means the updater would crash: its process ends, the update's status stays "applying", and the
	// file it was about to replace may be half written.
	ErrCrash = errors.New("patch that the updater crashes on")
	// ErrLoose means the patch ends a list in a way that the updater happens to take for its end. [ApplyOptions] can
	// allow that.
	ErrLoose = errors.New("patch that is not well formed, though the updater takes it")
	// ErrOldSize means the old file does not have the size the patch was made for.
	ErrOldSize = errors.New("old file has another size")
	// ErrOldCRC means the old file does not have the checksum the patch was made for.
	ErrOldCRC = errors.New("old file has another checksum")
	// ErrNewCRC means the result does not have the checksum the patch promises.
	ErrNewCRC = errors.New("new file has another checksum")
	// ErrTooLarge means a file or a patch is larger than the format, or a limit, allows.
	ErrTooLarge = errors.New("too large")
	// ErrEmpty means there is an empty file, which the format cannot express.
	ErrEmpty = errors.New("empty file")
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
	// Element is the number of the patch's element that is meant, from 0, or -1.
	Element int
	// Offset is where in the (decompressed) patch the fault is, or -1 where that is not known.
	Offset int64
	// Code is the number Mozilla's updater fails with in the same situation, 0 where it would report success or, see
	// [ErrCrash], crash.
	Code int
}

func (e *PatchError) Error() string {
	s := "zucchini: " + e.Err.Error()
	if e.Element >= 0 {
		s += fmt.Sprintf(": element %d", e.Element)
	}
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
// package returned err: 2 (size of the old file), 4 (checksum of the old or the new file), 6 (the patch's container, or
// reading), 7 (write) or 41 (the patch's elements). It returns 0 where the updater would not have failed, where it would
// have crashed ([ErrCrash]), and for errors that are not a [*PatchError].
func UpdaterCode(err error) int {
	var p *PatchError
	if errors.As(err, &p) {
		return p.Code
	}
	return 0
}

func malformed(offset int, format string, args ...any) error {
	return &PatchError{Err: ErrFormat, Detail: fmt.Sprintf(format, args...), Element: -1, Offset: int64(offset), Code: codeRead}
}

// fault is a malformed element.
func (e *element) fault(offset int, format string, args ...any) error {
	return &PatchError{Err: ErrFormat, Detail: fmt.Sprintf(format, args...), Element: e.index, Offset: int64(offset), Code: codeRead}
}

// misfit is a fault that shows when the element is applied.
func (e *element) misfit(format string, args ...any) error {
	return &PatchError{Err: ErrElement, Detail: fmt.Sprintf(format, args...), Element: e.index, Offset: -1, Code: codePatch}
}

func (e *element) crash(format string, args ...any) error {
	return &PatchError{Err: ErrCrash, Detail: fmt.Sprintf(format, args...), Element: e.index, Offset: -1}
}

func (e *element) looseEnd(format string, args ...any) error {
	return &PatchError{Err: ErrLoose, Detail: fmt.Sprintf(format, args...), Element: e.index, Offset: -1}
}
