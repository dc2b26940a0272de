package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net/url"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// shelf is an Opener for a scheme of its own: objects in memory.
type shelf map[string][]byte

func (s shelf) Open(_ context.Context, u *url.URL, from fetch.Position) (*fetch.Object, error) {
	data, ok := s[u.Path]
	if !ok {
		return nil, fetch.Permanent(fmt.Errorf("nothing at %s", u.Path))
	}
	return &fetch.Object{
		Body: io.NopCloser(bytes.NewReader(data[from.Offset:])), Offset: from.Offset, Size: int64(len(data)), Validator: "1",
	}, nil
}

func ExampleClient_Fetch() {
	data := []byte("a complete update")
	sum := sha512.Sum512(data)
	hash, err := fetch.ParseHash(fmt.Sprintf("sha512:%x", sum))
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := fetch.New(&fetch.Options{
		Openers:  map[string]fetch.Opener{"shelf": shelf{"/complete.mar": data}},
		Prefixes: []string{"shelf://releases/"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	file, err := client.Fetch(context.Background(), fetch.Request{
		URLs:   []string{"shelf://releases/absent.mar", "shelf://releases/complete.mar"},
		Size:   int64(len(data)),
		Hashes: []fetch.Hash{hash},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer file.Close()
	fmt.Println(file.Size(), "bytes from", file.URL())

	_, err = client.Fetch(context.Background(), fetch.Request{URLs: []string{"http://user:password@10.0.0.1/x"}, Hashes: []fetch.Hash{hash}})
	fmt.Println(err)
	// Output:
	// 17 bytes from shelf://releases/complete.mar
	// fetch http://10.0.0.1/x (not asked): http is not allowed, only https
}
