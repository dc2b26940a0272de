package senbonzakura

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// tried is the error of a download whose addresses ended like this.
func tried(errs ...error) error {
	e := &fetch.Error{}
	for _, err := range errs {
		e.Tries = append(e.Tries, fetch.Try{URL: "https://example.org/x.mar", Err: err})
	}
	return fmt.Errorf("fetch from: %w", e)
}

type ownError struct{ error }

func (ownError) Whose() Fault { return FaultOrigin }

func TestFaultOf(t *testing.T) {
	t.Parallel()
	refused, address := &fetch.NotAllowedError{Reason: fetch.ReasonInsecure}, &fetch.AddressError{Host: "example.org"}
	gone, digest := &fetch.StatusError{Code: http.StatusNotFound}, &fetch.DigestError{Algorithm: fetch.SHA256}
	input := func(err error) error { return &InputError{Input: "FROM", Err: err} }
	for name, tt := range map[string]struct {
		err  error
		want Fault
	}{
		"none":                            {nil, FaultNone},
		"left":                            {fmt.Errorf("build: %w", context.Canceled), FaultNone},
		"left while fetching":             {input(tried(context.Canceled)), FaultNone},
		"a bad field":                     {&RequestError{"From", "no URL and no file"}, FaultCaller},
		"a check":                         {&CheckError{CheckSignatures, input(mar.ErrSignature)}, FaultCaller},
		"a requirement":                   {&RequirementError{}, FaultCaller},
		"a refusal":                       {&partial.RefusedError{}, FaultCaller},
		"no MAR file":                     {input(&mar.FormatError{}), FaultCaller},
		"no MAR file, by itself":          {fmt.Errorf("open: %w", mar.ErrFormat), FaultCaller},
		"too large a MAR file":            {mar.ErrLimit, FaultCaller},
		"a key":                           {mar.ErrKey, FaultCaller},
		"a file that is not there":        {input(&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}), FaultCaller},
		"a file that changed":             {input(ErrChanged), FaultCaller},
		"a member":                        {updater.ErrMember, FaultCaller},
		"a patch":                         {&bsdiff.PatchError{Err: bsdiff.ErrOldCRC}, FaultCaller},
		"another product":                 {fmt.Errorf("%w: a and b", toolchain.ErrProduct), FaultCaller},
		"no rules":                        {toolchain.ErrNoRules, FaultCaller},
		"a release of the update server":  {&aus.ValidationError{}, FaultCaller},
		"bytes that are here already":     {input(digest), FaultCaller},
		"no address that may be asked":    {input(tried(refused, address)), FaultCaller},
		"gone":                            {input(tried(gone)), FaultOrigin},
		"one refused, one gone":           {tried(refused, gone), FaultOrigin},
		"other bytes":                     {tried(digest), FaultOrigin},
		"does not answer":                 {tried(&fetch.StallError{}), FaultOrigin},
		"a time-out of the network":       {tried(os.ErrDeadlineExceeded), FaultOrigin},
		"an error that answers":           {fmt.Errorf("x: %w", ownError{mar.ErrFormat}), FaultOrigin},
		"a signer":                        {&mar.SignError{Err: mar.ErrKey}, FaultService},
		"a signer that lies":              {mar.ErrSigner, FaultService},
		"the disk under an input":         {input(&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}), FaultService},
		"damage in the cache":             {input(errors.Join(cache.ErrCorrupt, mar.ErrFormat)), FaultService},
		"no room":                         {input(cache.ErrNoSpace), FaultService},
		"a panic":                         {&cache.PanicError{}, FaultService},
		"time":                            {fmt.Errorf("build: %w", context.DeadlineExceeded), FaultService},
		"closed":                          {ErrClosed, FaultService},
		"not proved":                      {&partial.VerifyError{}, FaultService},
		"not proved, with a broken patch": {&updater.UpdateError{Err: bsdiff.ErrFormat}, FaultService},
		"whatever else":                   {errors.New("x"), FaultService},
	} {
		if got := FaultOf(tt.err); got != tt.want {
			t.Errorf("%s (%v): got %q, want %q", name, tt.err, got, tt.want)
		}
	}
}

// What calls really return: of a generator, and of the packages below on their own.
func TestFaultOfCalls(t *testing.T) {
	t.Parallel()
	from, to := release(t, "Example", "1.0", "a"), release(t, "Example", "1.1", "b")
	o := newOrigin(t)
	dir := t.TempDir()
	g := newGenerator(t, filepath.Join(dir, "cache"))
	for name, tt := range map[string]struct {
		request Request
		want    Fault
	}{
		"nothing":       {Request{}, FaultCaller},
		"no MAR":        {Request{From: o.source("text", []byte("no MAR file")), To: o.source("1.1", to)}, FaultCaller},
		"no such file":  {Request{From: Source{File: filepath.Join(dir, "none")}, To: o.source("1.1", to)}, FaultCaller},
		"not there":     {Request{From: Source{URLs: []string{o.URL + "/none"}, Hashes: o.source("3.0", []byte("4")).Hashes}, To: o.source("1.1", to)}, FaultOrigin},
		"a bad scheme":  {Request{From: Source{URLs: []string{"gopher://x/"}, Hashes: o.source("2.0", []byte("2")).Hashes}, To: o.source("1.1", to)}, FaultCaller},
		"not on this":   {Request{From: Source{URLs: []string{"http://192.168.1.1/"}, Hashes: o.source("2.1", []byte("3")).Hashes}, To: o.source("1.1", to)}, FaultCaller},
		"a downgrade":   {Request{From: o.source("1.1", to), To: o.source("1.0", from)}, FaultCaller},
		"other product": {Request{From: o.source("other", release(t, "Other", "1.0", "a")), To: o.source("1.1", to)}, FaultCaller},
	} {
		_, err := g.Generate(t.Context(), tt.request, nil)
		if got := FaultOf(err); err == nil || got != tt.want {
			t.Errorf("%s: %v is of %q, want %q", name, err, got, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Generate(ctx, Request{From: o.source("1.0", from), To: o.source("1.1", to)}, nil); err == nil || FaultOf(err) != FaultNone {
		t.Errorf("who left: %v is of %q", err, FaultOf(err))
	}
	_, marErr := mar.NewReader(strings.NewReader("MAR1"), 4, nil)
	_, rulesErr := toolchain.ParseRules([]byte("x"))
	_, ausErr := aus.NewRelease("a", "Firefox", []byte("{"), nil)
	for _, err := range []error{marErr, rulesErr, ausErr} {
		if err == nil || FaultOf(err) != FaultCaller {
			t.Errorf("%v is of %q", err, FaultOf(err))
		}
	}
	// A disk that takes nothing is not the origin's.
	full := newGenerator(t, "", func(o *Options) {
		client, err := fetch.New(&fetch.Options{Insecure: true, Dir: filepath.Join(dir, "none")})
		if err != nil {
			t.Fatal(err)
		}
		o.Fetch = client
	})
	if _, err := full.Generate(t.Context(), Request{From: o.source("1.0", from), To: o.source("1.1", to)}, nil); !errors.Is(err, fetch.ErrStore) || FaultOf(err) != FaultService {
		t.Errorf("no directory to fetch to: %v is of %q", err, FaultOf(err))
	}
}
