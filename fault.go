package senbonzakura

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

// A Fault says whose an error is: see [FaultOf].
type Fault string

// The faults.
const (
	// FaultNone is the fault of no error, and of who asked and has left (context.Canceled).
	FaultNone Fault = ""
	// FaultCaller: what was asked for cannot be had as it is; asking again gives the same. A request with a bad field, a
	// file that is no MAR file, a pair that must not be made, a signature that does not verify, an address that may not
	// be asked.
	FaultCaller Fault = "caller"
	// FaultOrigin: the servers that have the complete updates do not give them, or give others.
	FaultOrigin Fault = "origin"
	// FaultService: everything else. The disk, the cache, signers, plugins, a time that is over, a mistake in this program.
	FaultService Fault = "service"
)

// Faults returns all of them but [FaultNone], as labels of metrics want them.
func Faults() []Fault { return []Fault{FaultCaller, FaultOrigin, FaultService} }

// FaultOf says whose an error is. It knows those of this package, aus, bsdiff, cache, fetch, mar, partial,
// partial/updater, toolchain and zucchini, however they are wrapped. An error of another package can answer for itself and for what it
// wraps, with a method Whose() Fault; else it is the service's, as all that plugins answer: callers do not speak to them.
//
// An update that was made here and is not proved (*partial.VerifyError, *updater.UpdateError) is the service's. In what
// partial.Verify returns about an update of others these are the answer, and nobody's fault.
func FaultOf(err error) Fault {
	var (
		own     interface{ Whose() Fault }
		signing *mar.SignError
		fetched *fetch.Error
		update  *updater.UpdateError
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return FaultNone
	case errors.As(err, &own):
		return own.Whose()
	case errors.As(err, &signing), errors.Is(err, fetch.ErrStore):
		return FaultService
	case errors.As(err, &fetched): // whose texts and causes are those of other machines
		return faultOfFetch(fetched)
	case isAny(err, ofService):
		return FaultService
	case isAny(err, ofRequest):
		return FaultCaller
	case errors.Is(err, partial.ErrDifferent), errors.As(err, &update):
		return FaultService
	case isAny(err, ofInput), isFrom(err):
		return FaultCaller
	}
	return FaultService
}

// ofService are errors that outweigh what they came through: a complete update that the disk does not give is not the caller's.
var ofService = []error{
	ErrClosed, mar.ErrSigner, cache.ErrCorrupt, cache.ErrNoSpace, cache.ErrTooLarge, cache.ErrClosed, context.DeadlineExceeded,
	fs.ErrPermission, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
}

// ofRequest are the errors about what was asked for.
var ofRequest = []error{
	ErrRequest, ErrCheck, ErrRequirement, ErrInput, ErrChanged, partial.ErrRefused, updater.ErrContradiction, updater.ErrClient,
	toolchain.ErrProduct, toolchain.ErrWatershed, toolchain.ErrDowngrade, toolchain.ErrRules,
}

// ofInput are those about what is in a file.
var ofInput = []error{
	mar.ErrFormat, mar.ErrLimit, mar.ErrSignature, mar.ErrSigned, mar.ErrKey, mar.ErrContent, mar.ErrArchive,
	updater.ErrMember, updater.ErrLimit, updater.ErrPatchFormat,
	bsdiff.ErrFormat, bsdiff.ErrCorrupt, bsdiff.ErrOldSize, bsdiff.ErrOldCRC, bsdiff.ErrTooLarge, bsdiff.ErrUnsupported,
	zucchini.ErrFormat, zucchini.ErrElement, zucchini.ErrCrash, zucchini.ErrLoose, zucchini.ErrOldSize, zucchini.ErrOldCRC,
	zucchini.ErrNewCRC, zucchini.ErrTooLarge, zucchini.ErrEmpty,
	aus.ErrFormat, aus.ErrInvalid, aus.ErrLimit,
}

func isAny(err error, list []error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

// isFrom says whether an error is about a file that has other bytes than a request says, though nobody was asked for it.
func isFrom(err error) bool {
	var (
		digest *fetch.DigestError
		size   *fetch.SizeError
	)
	return errors.As(err, &digest) || errors.As(err, &size)
}

// faultOfFetch is FaultOf for a download: the caller's where no address was one that may be asked.
func faultOfFetch(err *fetch.Error) Fault {
	for _, t := range err.Tries {
		var (
			address *fetch.AddressError
			refused *fetch.NotAllowedError
		)
		if !errors.As(t.Err, &address) && !errors.As(t.Err, &refused) {
			return FaultOrigin
		}
	}
	return FaultCaller
}
