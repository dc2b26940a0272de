package mar

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. What this package returns wraps one of them, or the error of the reader,
// writer or signer it was given.
var (
	// ErrFormat says that the bytes are not an archive that this package accepts. The error is a
	// [*FormatError] that holds the place and the kind.
	ErrFormat = errors.New("mar: invalid archive")
	// ErrLimit says that something is larger than the limits allow, in reading or writing.
	ErrLimit = errors.New("mar: limit exceeded")
	// ErrSignature says that a signature does not verify, or is not the one that was asked for.
	ErrSignature = errors.New("mar: signature does not verify")
	// ErrUnsigned says that an archive has no signatures where some are needed. It matches ErrSignature too.
	ErrUnsigned error = unsignedError{}
	// ErrSigned says that an archive has signatures where there must be none: strip it first.
	ErrSigned = errors.New("mar: archive is signed already")
	// ErrKey says that a key cannot be used: not RSA, too short or too long, unreadable, unknown by name.
	ErrKey = errors.New("mar: unusable key")
	// ErrSigner says that a signer broke its promise: wrong length, or a signature that its own public key
	// does not verify.
	ErrSigner = errors.New("mar: bad answer from signer")
	// ErrContent says that the content of an entry is not what its header declares, or changed between the
	// two passes of a signed write. The error is a [*ContentError].
	ErrContent = errors.New("mar: content does not match its header")
	// ErrArchive says that an [Archive] cannot be written: a name, mode, size or product block that readers
	// refuse.
	ErrArchive = errors.New("mar: archive cannot be written")
)

// A Code names one kind of problem with an archive. Codes are stable: programs may store and compare them.
type Code string

// The kinds of problems that make an archive invalid. Those marked "may be allowed" can be listed in
// [ReaderOptions].Allow.
const (
	// CodeMagic: the file does not start with MAR1.
	CodeMagic Code = "magic"
	// CodeTruncated: a number in the file points behind the file's end.
	CodeTruncated Code = "truncated"
	// CodeLimit: a number in the file is larger than the limits allow. Such errors match ErrLimit.
	CodeLimit Code = "limit"
	// CodeSize: the total size that the file declares is not the size it has. May be allowed: Mozilla's
	// reader and updater never look at the field, so bytes cut or added by transport go unseen there.
	// manipulated_signed.mar in the tests of Mozilla's libmar needs it; no published archive is known to.
	CodeSize Code = "size"
	// CodeTrailing: bytes follow the index. May be allowed: every known writer puts the index last, but
	// Mozilla's reader does not ask for it. manipulated_signed.mar in the tests of libmar needs it; no
	// published archive is known to.
	CodeTrailing Code = "trailing"
	// CodeIndex: the index stands inside the header, or an entry in it is cut off.
	CodeIndex Code = "index"
	// CodeEmpty: the index has no entries. May be allowed: Mozilla's reader accepts such a file, although its
	// writer cannot make one.
	CodeEmpty Code = "empty"
	// CodeSignatureBlock: a signature reaches into the contents or the index.
	CodeSignatureBlock Code = "signature-block"
	// CodeSection: the list of additional sections is broken, or reaches into the contents.
	CodeSection Code = "section"
	// CodeProduct: the product information block is too large, or its strings are too long or not ended.
	// May be allowed; the archive then has no product information, which is how Mozilla's updater sees it.
	CodeProduct Code = "product"
	// CodeRange: the content of an entry stands before the contents' start or behind the file's end.
	CodeRange Code = "range"
	// CodeOverlap: the content of an entry shares bytes with another one or with the index. May be allowed:
	// the files named manipulated_*.mar in the tests of Mozilla's libmar are like that.
	CodeOverlap Code = "overlap"
	// CodeName: an entry's name is not a plain relative path. May be allowed: Mozilla's reader takes any
	// bytes. Such entries are listed and can be read, but are not part of the [io/fs.FS] and never extracted.
	CodeName Code = "name"
	// CodeDuplicate: two entries have the same name. May be allowed: Mozilla's reader takes the first.
	CodeDuplicate Code = "duplicate"
	// CodeConflict: the name of an entry is a directory in the name of another. May be allowed; the file is
	// then what the [io/fs.FS] shows.
	CodeConflict Code = "conflict"
	// CodeMode: an entry's flags have bits other than the nine permission bits, such as setuid or a file
	// type. May be allowed: Mozilla's updater on Linux applies setuid bits and ignores the others.
	CodeMode Code = "mode"
)

// allowable are the codes that ReaderOptions.Allow may list.
func allowable(c Code) bool {
	switch c {
	case CodeSize, CodeTrailing, CodeEmpty, CodeProduct, CodeOverlap, CodeName, CodeDuplicate, CodeConflict, CodeMode:
		return true
	}
	return false
}

// A FormatError says what is wrong with an archive, and where. It matches [ErrFormat], or [ErrLimit] where
// Code is CodeLimit.
type FormatError struct {
	Code   Code
	Offset int64  // where in the file the offending field stands, in bytes; the content where extraction refuses a name
	Name   string // entry concerned, "" where none is
	Detail string // what is wrong, for people

	accepted bool // Mozilla's updater takes no notice, although it does of other problems with this code
}

func (e *FormatError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("mar: offset %d: entry %.200q: %s", e.Offset, e.Name, e.Detail)
	}
	return fmt.Sprintf("mar: offset %d: %s", e.Offset, e.Detail)
}

// Is reports whether target is the sentinel of this error's kind.
func (e *FormatError) Is(target error) bool {
	if e.Code == CodeLimit {
		return target == ErrLimit
	}
	return target == ErrFormat
}

// A ContentError says that an entry's content yielded another number of bytes than its header declares, or
// other bytes in the second pass of a signed write than in the first. It matches [ErrContent].
type ContentError struct {
	Name     string // entry concerned, "" where a pass as a whole is
	Declared int64  // Header.Size
	Got      int64  // bytes seen; Declared+1 stands for "more than declared"
}

func (e *ContentError) Error() string {
	switch {
	case e.Name == "":
		return "mar: contents changed between hashing and writing"
	case e.Got > e.Declared:
		return fmt.Sprintf("mar: entry %q: content is longer than the declared %d bytes", e.Name, e.Declared)
	}
	return fmt.Sprintf("mar: entry %q: content has %d bytes, declared are %d", e.Name, e.Got, e.Declared)
}

// Is reports whether target is ErrContent.
func (e *ContentError) Is(target error) bool { return target == ErrContent }

// unsignedError is the type of ErrUnsigned.
type unsignedError struct{}

func (unsignedError) Error() string { return "mar: archive is not signed" }
func (unsignedError) Unwrap() error { return ErrSignature }

// A SignatureError says why verification failed, or why there is no signature to take out or to put in. It matches
// [ErrSignature].
type SignatureError struct {
	Signature int    // index of the signature in the file, -1 where none or their number is what is wrong
	Detail    string // what is wrong, for people
}

func (e *SignatureError) Error() string {
	if e.Signature < 0 {
		return "mar: " + e.Detail
	}
	return fmt.Sprintf("mar: signature %d: %s", e.Signature, e.Detail)
}

// Is reports whether target is ErrSignature.
func (e *SignatureError) Is(target error) bool { return target == ErrSignature }
