package mar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var errTest = errors.New("error of the test")

func sample() *Archive {
	return &Archive{
		Product: &Product{Channel: "release", Version: "1.0"},
		Entries: []Entry{
			BytesEntry("updatev3.manifest", 0o644, []byte("type \"partial\"\n")),
			BytesEntry("dir/one", 0o755, bytes.Repeat([]byte("one"), 1000)),
			BytesEntry("empty", 0o600, nil),
		},
	}
}

// readerEntry has declared size n and content from open.
func readerEntry(n int64, open func() io.Reader) Entry {
	return Entry{
		Header: Header{Name: "entry", Size: n, Mode: 0o644},
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(open()), nil },
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for name, tt := range map[string]struct {
		change func(*Archive)
		want   error
	}{
		"no entries":           {func(a *Archive) { a.Entries = nil }, ErrArchive},
		"name":                 {func(a *Archive) { a.Entries[1].Name = "../one" }, ErrArchive},
		"long name":            {func(a *Archive) { a.Entries[1].Name = strings.Repeat("n", 4096) }, ErrLimit},
		"deep name":            {func(a *Archive) { a.Entries[1].Name = strings.Repeat("n/", 100) + "n" }, ErrLimit},
		"duplicate":            {func(a *Archive) { a.Entries[1].Name = "empty" }, ErrArchive},
		"conflict":             {func(a *Archive) { a.Entries[2].Name = "dir" }, ErrArchive},
		"mode":                 {func(a *Archive) { a.Entries[1].Mode = fs.ModeDir | 0o755 }, ErrArchive},
		"setuid":               {func(a *Archive) { a.Entries[1].Mode = 0o4755 }, ErrArchive},
		"negative size":        {func(a *Archive) { a.Entries[1].Size = -1 }, ErrArchive},
		"size of 4 GiB":        {func(a *Archive) { a.Entries[1].Size = 1 << 32 }, ErrLimit},
		"largest size":         {func(a *Archive) { a.Entries[1].Size = math.MaxInt64 }, ErrLimit},
		"sum of 4 GiB":         {func(a *Archive) { a.Entries[1].Size, a.Entries[2].Size, a.MaxSize = 1<<31, 1<<31, 1<<40 }, ErrLimit},
		"500 MB":               {func(a *Archive) { a.Entries[1].Size = MaxFileSize }, ErrLimit},
		"no content":           {func(a *Archive) { a.Entries[1].Open = nil }, ErrArchive},
		"channel":              {func(a *Archive) { a.Product.Channel = long }, ErrArchive},
		"version":              {func(a *Archive) { a.Product.Version = long[:32] }, ErrArchive},
		"zero byte in channel": {func(a *Archive) { a.Product.Channel = "a\x00b" }, ErrArchive},
		"zero byte in version": {func(a *Archive) { a.Product.Version = "\x00" }, ErrArchive},
		"unknown layout":       {func(a *Archive) { a.Layout, a.Product = 3, nil }, ErrArchive},
		"product in layout":    {func(a *Archive) { a.Layout = LayoutOriginal }, ErrArchive},
		"product in layout 2":  {func(a *Archive) { a.Layout = LayoutNoSections }, ErrArchive},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := sample()
			tt.change(a)
			var out bytes.Buffer
			if n, err := a.WriteTo(&out); !errors.Is(err, tt.want) || n != 0 || out.Len() != 0 {
				t.Errorf("got %d bytes, %v, want %v", n, err, tt.want)
			}
			if a.Size() != -1 {
				t.Errorf("got size %d, want -1", a.Size())
			}
		})
	}
}

// The limit of 500 MB can be lifted up to what the format holds.
func TestWriteMaxSize(t *testing.T) {
	t.Parallel()
	a := sample()
	a.Entries[1].Size = 1 << 31
	if a.Size() != -1 {
		t.Error("more than 500 MB pass")
	}
	a.MaxSize = 1 << 32
	if got, want := a.Size(), int64(1<<31+128+15+4+3*13+17+7+5); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	exact := &Archive{Entries: []Entry{{Header: Header{Name: "n", Size: MaxFileSize - 24 - 4 - 14}, Open: sample().Entries[0].Open}}}
	if exact.Size() != MaxFileSize {
		t.Errorf("got %d, want %d", exact.Size(), MaxFileSize)
	}
	exact.Entries[0].Size++
	if exact.Size() != -1 {
		t.Error("one byte more than 500 MB passes")
	}
}

func TestWriteContent(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 60_000) // more than two buffers
	str := func(b []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(b) } }
	n := int64(len(data))
	for name, tt := range map[string]struct {
		entry Entry
		want  error
	}{
		"one byte":         {readerEntry(1000, func() io.Reader { return iotest.OneByteReader(bytes.NewReader(data[:1000])) }), nil},
		"half":             {readerEntry(n, func() io.Reader { return iotest.HalfReader(bytes.NewReader(data)) }), nil},
		"data with error":  {readerEntry(n, func() io.Reader { return iotest.DataErrReader(bytes.NewReader(data)) }), nil},
		"empty":            {readerEntry(0, str(nil)), nil},
		"short":            {readerEntry(n+1, str(data)), ErrContent},
		"long":             {readerEntry(n-1, str(data)), ErrContent},
		"long for empty":   {readerEntry(0, str(data)), ErrContent},
		"short by all":     {readerEntry(n, str(nil)), ErrContent},
		"long by a buffer": {readerEntry(bufferSize, str(data)), ErrContent},
		"error":            {readerEntry(n, func() io.Reader { return iotest.ErrReader(errTest) }), errTest},
		"error at end":     {readerEntry(n, func() io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errTest)) }), errTest},
		"timeout":          {readerEntry(n, func() io.Reader { return iotest.TimeoutReader(bytes.NewReader(data)) }), iotest.ErrTimeout},
		"unexpected EOF":   {readerEntry(n, func() io.Reader { return iotest.ErrReader(io.ErrUnexpectedEOF) }), io.ErrUnexpectedEOF},
		"no progress":      {readerEntry(n, func() io.Reader { return stuck{} }), io.ErrNoProgress},
		"impossible count": {readerEntry(n, func() io.Reader { return liar{} }), ErrContent},
		"does not open":    {Entry{Header: Header{Name: "n"}, Open: func() (io.ReadCloser, error) { return nil, errTest }}, errTest},
		"does not close": {Entry{Header: Header{Name: "n"}, Open: func() (io.ReadCloser, error) {
			return closer{strings.NewReader(""), func() error { return errTest }}, nil
		}}, errTest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Archive{Entries: []Entry{tt.entry}}
			var out bytes.Buffer
			n, err := a.WriteTo(&out)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if n != int64(out.Len()) || n > a.Size() {
				t.Errorf("got count %d, wrote %d of %d", n, out.Len(), a.Size())
			}
			var ce *ContentError
			if errors.As(err, &ce) {
				want := n - 24 // what was written behind the header
				if strings.HasPrefix(name, "long") {
					want = tt.entry.Size + 1
				}
				if ce.Name != "entry" || ce.Declared != tt.entry.Size || ce.Got != want {
					t.Errorf("got %+v, want Got %d", ce, want)
				}
			}
			if err == nil {
				if got := content(t, parse(t, out.Bytes()).Files()[0]); !bytes.Equal(got, data[:len(got)]) {
					t.Error("content differs")
				}
			}
		})
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

type liar struct{}

func (liar) Read(p []byte) (int, error) { return len(p) + 1, nil }

type closer struct {
	io.Reader
	close func() error
}

func (c closer) Close() error { return c.close() }

// failWriter fails at byte n, short or with an error.
type failWriter struct {
	n     int
	short bool
}

func (w *failWriter) Write(p []byte) (int, error) {
	if w.n >= len(p) {
		w.n -= len(p)
		return len(p), nil
	}
	if w.short {
		return w.n, nil
	}
	return w.n, errTest
}

func TestWriteFault(t *testing.T) {
	t.Parallel()
	a := sample()
	a.Entries[1] = BytesEntry("dir/one", 0o755, []byte("one"))
	signer, err := CryptoSigner(testKey(t), RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	r := parse(t, write(t, a))
	digests, err := a.Digest(t.Context(), signer.Info())
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(t.Context(), digests[0]) // once, as it takes time
	if err != nil {
		t.Fatal(err)
	}
	signed := func(w io.Writer) (int64, error) {
		return a.WriteSigned(t.Context(), w, fixedSigner{signer.Info(), sig, nil})
	}
	for name, writeTo := range map[string]func(io.Writer) (int64, error){
		"plain": a.WriteTo, "edit": r.Strip().WriteTo, "signed": signed,
	} {
		size := int(a.Size())
		step := 1
		if name == "signed" {
			size, step = int(a.Size(signer)), 3 // each verifies a signature
		}
		for i := 0; i < size; i += step {
			for _, short := range []bool{false, true} {
				want := errTest
				if short {
					want = io.ErrShortWrite
				}
				n, err := writeTo(&failWriter{i, short})
				if !errors.Is(err, want) || n != int64(i) {
					t.Fatalf("%s: failing at byte %d: got %d, %v", name, i, n, err)
				}
			}
		}
		if n, err := writeTo(&failWriter{n: size}); err != nil || n != int64(size) {
			t.Errorf("%s: got %d, %v", name, n, err)
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	signer, err := CryptoSigner(testKey(t), RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	for _, pass := range []int{1, 2} {
		ctx, cancel := context.WithCancel(t.Context())
		opened := 0
		e := readerEntry(1<<40, nil)
		e.Size = 1 << 28
		e.Open = func() (io.ReadCloser, error) {
			opened++
			if opened == pass {
				cancel()
			}
			return io.NopCloser(io.LimitReader(zeros{}, e.Size)), nil
		}
		small := e
		if pass == 2 {
			small.Size = 10
			small.Open = func() (io.ReadCloser, error) {
				if opened++; opened == pass {
					cancel()
				}
				return io.NopCloser(io.LimitReader(zeros{}, 10)), nil
			}
		}
		if _, err := (&Archive{Entries: []Entry{small}}).WriteSigned(ctx, io.Discard, signer); !errors.Is(err, context.Canceled) {
			t.Errorf("pass %d: got %v, want it cancelled", pass, err)
		}
		if opened != pass {
			t.Errorf("pass %d: opened %d times", pass, opened)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := parse(t, shared(t, "libmar", "signed_pib.mar"))
	if _, err := r.Digest(ctx, RSAPKCS1SHA384); !errors.Is(err, context.Canceled) {
		t.Errorf("Digest: got %v", err)
	}
	if err := r.Verify(ctx, testKey(t).Public()); !errors.Is(err, context.Canceled) || errors.Is(err, ErrSignature) {
		t.Errorf("Verify: got %v", err)
	}
	if _, err := signer.Sign(ctx, make([]byte, 48)); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign: got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestWriteDeterministic(t *testing.T) {
	t.Parallel()
	signer, err := CryptoSigner(testKey(t), RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 5 {
		var out bytes.Buffer
		if _, err := sample().WriteSigned(t.Context(), &out, signer); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = out.Bytes()
		}
		if !bytes.Equal(first, out.Bytes()) {
			t.Error("bytes differ between runs")
		}
	}
}

// Entries keep the order they are given in, in the index and in the contents.
func TestWriteOrder(t *testing.T) {
	t.Parallel()
	var a Archive
	for i := range 100 {
		a.Entries = append(a.Entries, BytesEntry(fmt.Sprintf("%d/%d", i*37%101, i), 0o644, []byte{byte(i)}))
	}
	at := int64(24)
	for i, f := range parse(t, write(t, &a)).Files() {
		if f.Name != a.Entries[i].Name || f.Offset != at || content(t, f)[0] != byte(i) {
			t.Errorf("entry %d: got %s at %d", i, f.Name, f.Offset)
		}
		at += f.Size
	}
}

func TestProductBlock(t *testing.T) {
	t.Parallel()
	for _, channel := range []int{0, 1, 62, 63} {
		for _, version := range []int{0, 1, 30, 31} { // 63 and 31 together is what Mozilla's own tool cannot write
			for _, exact := range []bool{false, true} {
				a := sample()
				a.Product = &Product{strings.Repeat("c", channel), strings.Repeat("v", version)}
				a.ExactProduct = exact
				data := write(t, a)
				want := 104
				if exact {
					want = 8 + channel + 1 + version + 1
				}
				if got := int(be.Uint32(data[24:])); got != want {
					t.Errorf("%d, %d, %v: got a block of %d bytes, want %d", channel, version, exact, got, want)
				}
				r := parse(t, data)
				if p, ok := r.Product(); !ok || p != *a.Product {
					t.Errorf("%d, %d, %v: got %v, %v", channel, version, exact, p, ok)
				}
				if again := write(t, r.Archive()); !bytes.Equal(again, data) {
					t.Errorf("%d, %d, %v: bytes differ when written anew", channel, version, exact)
				}
			}
		}
	}
}

func TestSignerPromises(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := SignerInfo{Algorithm: RSAPKCS1SHA384, PublicKey: k.Public(), SignatureSize: 256}
	digests, err := sample().Digest(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA384, digests[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(sig)
	flipped[100] ^= 1
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	info := func(change func(*SignerInfo)) SignerInfo {
		i := good
		change(&i)
		return i
	}
	for name, tt := range map[string]struct {
		signer fixedSigner
		want   error
	}{
		"good":          {fixedSigner{good, sig, nil}, nil},
		"flipped":       {fixedSigner{good, flipped, nil}, ErrSigner},
		"zeros":         {fixedSigner{good, make([]byte, 256), nil}, ErrSigner},
		"short":         {fixedSigner{good, sig[:255], nil}, ErrSigner},
		"long":          {fixedSigner{good, append(slices.Clone(sig), 0), nil}, ErrSigner},
		"empty":         {fixedSigner{good, nil, nil}, ErrSigner},
		"error":         {fixedSigner{good, sig, errTest}, errTest},
		"other key":     {fixedSigner{info(func(i *SignerInfo) { i.PublicKey = other.Public() }), sig, nil}, ErrSigner},
		"no key":        {fixedSigner{info(func(i *SignerInfo) { i.PublicKey = nil }), sig, nil}, ErrKey},
		"elliptic key":  {fixedSigner{info(func(i *SignerInfo) { i.PublicKey = ec.Public() }), sig, nil}, ErrKey},
		"algorithm 0":   {fixedSigner{info(func(i *SignerInfo) { i.Algorithm = 0 }), sig, nil}, ErrSigner},
		"algorithm 3":   {fixedSigner{info(func(i *SignerInfo) { i.Algorithm = 3 }), sig, nil}, ErrSigner},
		"SHA-1":         {fixedSigner{info(func(i *SignerInfo) { i.Algorithm = RSAPKCS1SHA1 }), sig, nil}, ErrSigner},
		"size 0":        {fixedSigner{info(func(i *SignerInfo) { i.SignatureSize = 0 }), sig, nil}, ErrSigner},
		"negative size": {fixedSigner{info(func(i *SignerInfo) { i.SignatureSize = -1 }), sig, nil}, ErrSigner},
		"size 2049":     {fixedSigner{info(func(i *SignerInfo) { i.SignatureSize = 2049 }), sig, nil}, ErrSigner},
		"size of another key": {fixedSigner{info(func(i *SignerInfo) {
			i.SignatureSize = 512
		}), make([]byte, 512), nil}, ErrSigner},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			_, err := sample().WriteSigned(t.Context(), &out, tt.signer)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && out.Len() > 0 {
				t.Errorf("%d bytes were written", out.Len())
			}
			if err == nil {
				if err := parse(t, out.Bytes()).Verify(t.Context(), k.Public()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := sample().WriteSigned(t.Context(), io.Discard); !errors.Is(err, ErrSigner) {
		t.Errorf("no signers: got %v", err)
	}
	if _, err := CryptoSigner(ec, RSAPKCS1SHA384); !errors.Is(err, ErrKey) {
		t.Errorf("elliptic key: got %v", err)
	}
	if _, err := CryptoSigner(k, 0); !errors.Is(err, ErrSigner) {
		t.Errorf("no algorithm: got %v", err)
	}
	if s := sample().Size(fixedSigner{info: SignerInfo{}}); s != -1 {
		t.Errorf("got size %d with an impossible signer", s)
	}
}

// Mozilla's check lets RSA-1024 pass in verification, by a confusion of bits and bytes. Here it does not.
func TestShortKeys(t *testing.T) {
	t.Parallel()
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CryptoSigner(k, RSAPKCS1SHA384); !errors.Is(err, ErrKey) {
		t.Errorf("signing: got %v, want ErrKey", err)
	}
	r := parse(t, shared(t, "libmar", "signed_pib.mar"))
	for _, bad := range []crypto.PublicKey{k.Public(), nil, (*rsa.PublicKey)(nil), &rsa.PublicKey{}, "key", *k} {
		if err := r.Verify(t.Context(), bad); !errors.Is(err, ErrKey) || errors.Is(err, ErrSignature) {
			t.Errorf("verifying with %T: got %v, want ErrKey", bad, err)
		}
		if _, err := r.VerifyAny(t.Context(), testKey(t).Public(), bad); !errors.Is(err, ErrKey) {
			t.Errorf("VerifyAny with %T: got %v, want ErrKey", bad, err)
		}
	}
}

func TestSignMany(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	var list []Signer
	var keys []crypto.PublicKey
	for n := 1; n <= 9; n++ {
		alg := RSAPKCS1SHA384
		if n%2 == 0 {
			alg = RSAPKCS1SHA1 // asked for, so it is made
		}
		s, err := CryptoSigner(k, alg)
		if err != nil {
			t.Fatal(err)
		}
		list, keys = append(list, s), append(keys, k.Public())
		var out bytes.Buffer
		_, err = sample().WriteSigned(t.Context(), &out, list...)
		if n == 9 {
			if !errors.Is(err, ErrLimit) {
				t.Errorf("9 signatures: got %v, want ErrLimit", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r := parse(t, out.Bytes())
		if err := r.Verify(t.Context(), keys...); err != nil {
			t.Errorf("%d signatures: %v", n, err)
		}
		if err := r.Verify(t.Context(), append(keys, k.Public())...); !errors.Is(err, ErrSignature) {
			t.Errorf("%d signatures, a key more: got %v", n, err)
		}
		if got := write(t, r.Strip()); !bytes.Equal(got, write(t, sample())) {
			t.Errorf("%d signatures: stripping does not give the unsigned archive", n)
		}
		if _, err := r.WriteSigned(t.Context(), io.Discard, s); !errors.Is(err, ErrSigned) {
			t.Errorf("signing again: got %v, want ErrSigned", err)
		}
		if _, err := r.Reserve(s.Info()); !errors.Is(err, ErrSigned) {
			t.Errorf("reserving again: got %v, want ErrSigned", err)
		}
		digest, err := r.Digest(t.Context(), alg)
		if err != nil {
			t.Fatal(err)
		}
		infos := infosOf(list)
		planned, err := sample().Digest(t.Context(), infos...)
		if err != nil || !bytes.Equal(planned[n-1], digest) {
			t.Errorf("%d signatures: digest in advance is %x, %v, want %x", n, planned[n-1], err, digest)
		}
	}
}

// What is signed must be what is written.
func TestSignChangingContent(t *testing.T) {
	t.Parallel()
	signer, err := CryptoSigner(testKey(t), RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	for name, second := range map[string]string{"other bytes": "hellO", "short": "hell", "long": "hello!"} {
		passes := []string{"hello", second}
		a := sample()
		a.Entries = append(a.Entries, readerEntry(5, func() io.Reader {
			p := passes[0]
			passes = passes[1:]
			return strings.NewReader(p)
		}))
		if _, err := a.WriteSigned(t.Context(), io.Discard, signer); !errors.Is(err, ErrContent) {
			t.Errorf("%s: got %v, want ErrContent", name, err)
		}
	}
}

// Every byte of a signed archive but those of the signatures is covered.
func TestSignatureCoversEverything(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	signer, err := CryptoSigner(k, RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	small := &Archive{Product: &Product{"c", "1"}, Entries: []Entry{BytesEntry("n", 0o644, []byte("data"))}}
	if _, err := small.WriteSigned(t.Context(), &out, signer); err != nil {
		t.Fatal(err)
	}
	for i := range out.Len() {
		data := slices.Clone(out.Bytes())
		data[i] ^= 0x40
		r, err := NewReader(bytes.NewReader(data), int64(len(data)), &ReaderOptions{Allow: allowed()})
		if err != nil {
			continue
		}
		if err := r.Verify(t.Context(), k.Public()); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d changed: got %v, want ErrSignature", i, err)
		}
	}
	longer := append(slices.Clone(out.Bytes()), 'x')
	if err := parse(t, longer, CodeTrailing, CodeSize).Verify(t.Context(), k.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("byte appended: got %v, want ErrSignature", err)
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	info := SignerInfo{Algorithm: RSAPKCS1SHA384, SignatureSize: 256}
	var reserved bytes.Buffer
	if _, err := sample().WriteReserved(t.Context(), &reserved, info); err != nil {
		t.Fatal(err)
	}
	edit, err := parse(t, write(t, sample())).Reserve(info)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(write(t, edit), reserved.Bytes()) {
		t.Error("reserving in an archive that was read gives other bytes")
	}
	r := parse(t, reserved.Bytes())
	digest, err := r.Digest(t.Context(), RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA384, digest)
	if err != nil {
		t.Fatal(err)
	}
	if edit, err = r.ImportSignature(0, EncodeSignature(sig)); err != nil {
		t.Fatal(err)
	}
	signer, err := CryptoSigner(k, RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if _, err := sample().WriteSigned(t.Context(), &want, signer); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(write(t, edit), want.Bytes()) {
		t.Error("signing elsewhere gives other bytes than signing here")
	}
	for name, err := range map[string]error{
		"length":   second(r.ReplaceSignature(0, sig[1:])),
		"text":     second(r.ImportSignature(0, []byte("no base64"))),
		"empty":    second(r.ImportSignature(0, nil)),
		"index":    second(r.ReplaceSignature(1, sig)),
		"negative": second(r.ReplaceSignature(-1, sig)),
		"extract":  second(r.ExtractSignature(1)),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", name, err)
		}
	}
	unsigned := parse(t, write(t, sample()))
	for name, err := range map[string]error{"replace": second(unsigned.ReplaceSignature(0, sig)), "extract": second(unsigned.ExtractSignature(0))} {
		if !errors.Is(err, ErrUnsigned) || !errors.Is(err, ErrSignature) {
			t.Errorf("%s in an unsigned archive: got %v, want ErrUnsigned", name, err)
		}
	}
	if err := second(r.ExtractSignature(1)); errors.Is(err, ErrUnsigned) {
		t.Errorf("the archive is signed, got %v", err)
	}
	if _, err := DecodeSignature(make([]byte, 1<<20)); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
	if _, err := parse(t, write(t, sample())).Digest(t.Context(), RSAPKCS1SHA384); !errors.Is(err, ErrUnsigned) {
		t.Errorf("digest of an unsigned archive: got %v, want ErrUnsigned", err)
	}
	if _, err := r.Digest(t.Context(), 3); err == nil {
		t.Error("digest with an unknown algorithm")
	}
}

func second[T any](_ T, err error) error { return err }
