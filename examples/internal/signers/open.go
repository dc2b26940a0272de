package signers

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// Options are what a service wants to know of what is opened. All are required.
type Options struct {
	Log *slog.Logger
	// Opened is told how to close each thing, in the order of opening: the last has to be closed first.
	Opened func(closer func() error)
	// Plugin is told of each plugin's process.
	Plugin func(name string, process *plugins.Process) error
}

// Signer makes one signature of an update.
type Signer struct {
	Name   string
	Signer *signing.PlaceSigner
	// Check asks the plugins of its keys.
	Check func(context.Context) error
}

// Opened is what can sign.
type Opened struct {
	Signers []Signer                   // of updates, one for each signature
	Clients map[string]*signing.Client // of the plugins, by name
}

// KeyError says which key of the configuration something that does not open is about.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// Open starts the plugins and finds the keys. The configuration must have been checked. The error is a [*KeyError]; what was
// opened before it is the caller's to close.
func (s *Config) Open(ctx context.Context, opts Options) (*Opened, error) {
	opened := &Opened{Clients: map[string]*signing.Client{}}
	for i := range s.Plugins {
		p := &s.Plugins[i]
		client, err := signing.Start(ctx, p.Start(opts.Log.With("part", "signer "+p.Name)))
		if err != nil {
			return nil, &KeyError{fmt.Sprintf("signing.plugins[%d].command", i), err}
		}
		opts.Opened(client.Close)
		opened.Clients[p.Name] = client
		if err := opts.Plugin(p.Name, client.Process()); err != nil {
			return nil, &KeyError{fmt.Sprintf("signing.plugins[%d].name", i), err}
		}
	}
	if len(s.Keys) == 0 {
		return opened, nil
	}
	policy, err := s.ReadPolicy()
	if err != nil {
		return nil, &KeyError{"signing.policy", err}
	}
	journal, err := signing.OpenJournal(s.Journal)
	if err != nil {
		return nil, &KeyError{"signing.journal", err}
	}
	opts.Opened(journal.Close)
	places, err := s.find(ctx, opened.Clients)
	if err != nil {
		return nil, err
	}
	authority, err := signing.NewAuthority(ctx, places, *policy, &signing.AuthorityOptions{Journal: journal})
	if err != nil {
		return nil, &KeyError{"signing.keys", err}
	}
	for i, signer := range authority.Places() {
		var names []string
		for _, ref := range places[i] {
			names = append(names, ref.Name)
		}
		opened.Signers = append(opened.Signers, Signer{Name: strings.Join(names, " or "), Signer: signer, Check: pingAll(places[i])})
	}
	return opened, nil
}

// find finds the configured keys and puts them into their places.
func (s *Config) find(ctx context.Context, clients map[string]*signing.Client) (places []signing.Place, err error) {
	number := map[*Key]int{}
	for i := range s.Keys {
		number[&s.Keys[i]] = i
	}
	for _, keys := range s.Places() {
		var place signing.Place
		for _, k := range keys {
			public, err := PublicKey(k.PublicKey)
			if err != nil {
				return nil, &KeyError{fmt.Sprintf("signing.keys[%d].public_key", number[k]), err}
			}
			from, until, err := k.Window()
			if err != nil {
				return nil, &KeyError{fmt.Sprintf("signing.keys[%d].not_before", number[k]), err}
			}
			if _, err := clients[k.Plugin].Signer(ctx, k.ID, public); err != nil {
				return nil, &KeyError{fmt.Sprintf("signing.keys[%d].id", number[k]), err}
			}
			place = append(place, signing.KeyRef{
				Name: k.Called(), Client: clients[k.Plugin], ID: k.ID, PublicKey: public, NotBefore: from, NotAfter: until,
			})
		}
		places = append(places, place)
	}
	return places, nil
}

// pingAll asks the plugins of all keys of a place.
func pingAll(place signing.Place) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, ref := range place {
			if err := ref.Client.Process().Ping(ctx); err != nil {
				return fmt.Errorf("key %s: %w", ref.Name, err)
			}
		}
		return nil
	}
}
