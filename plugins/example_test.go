package plugins_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// A plugin's code returns errors that match one of the closed set; the host's call returns one that matches the
// same.
func ExampleError() {
	err := fmt.Errorf("ask the HSM: %w", &plugins.Error{
		Reason: plugins.ReasonThrottled, Message: "busy", RetryAfter: 2 * time.Second,
	})
	var e *plugins.Error
	fmt.Println(err)
	fmt.Println(errors.Is(err, plugins.ErrThrottled), errors.Is(err, plugins.ErrDenied))
	fmt.Println(errors.As(err, &e), e.RetryAfter)
	// Output:
	// ask the HSM: throttled: busy
	// true false
	// true 2s
}
