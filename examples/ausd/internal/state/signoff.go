package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/aus"
)

// Requirement says how many people of which roles must agree before what clients of a channel get is changed.
type Requirement struct {
	Product string
	Channel string
	Roles   map[string]int
}

// Policy is all requirements. It must not be changed, and is then safe for concurrent use.
type Policy []Requirement

// Required returns how many people of each role must agree to changes that lead from one state to another: for each role the most
// of what is required for a product and channel that a change touches. A rule touches those that it matched before
// or matches now; a release those of the rules that lead to it; a pin and the end or change of a shutoff its own, an allowed host all channels of its
// products, a made partial every product. To shut off needs nobody, unless clients get another release instead. To protect a release from changes needs nobody;
// to lift that needs what its product needs.
func (p Policy) Required(from, to *State, changes []Changed) map[string]int {
	if len(p) == 0 {
		return nil
	}
	required := map[string]int{}
	for _, c := range changes {
		switch c.Kind {
		case Rule:
			p.rule(required, c.Before)
			p.rule(required, c.After)
		case Release:
			if !protectionOnly(c) {
				p.release(required, from, c.Key)
				p.release(required, to, c.Key)
			}
			if c.Before != nil && c.Before.release.ReadOnly() && (c.After == nil || !c.After.release.ReadOnly()) {
				p.add(required, c.Before.release.Product(), "")
			}
		case Pin:
			for _, o := range []*Object{c.Before, c.After} {
				if o != nil {
					p.add(required, o.pin.Product, o.pin.Channel)
				}
			}
		case Shutoff:
			if c.Before != nil {
				p.add(required, c.Before.shutoff.Product, c.Before.shutoff.Channel)
			}
			if c.After != nil && c.After.shutoff.Instead != "" {
				p.add(required, c.After.shutoff.Product, c.After.shutoff.Channel)
			}
		case Made:
			p.add(required, "", "")
		case Host:
			for _, o := range []*Object{c.Before, c.After} {
				if o == nil {
					continue
				}
				for _, product := range o.Products() {
					p.add(required, product, "")
				}
			}
		}
	}
	return required
}

// protectionOnly says whether nothing but the write protection of a release changes.
func protectionOnly(c Changed) bool {
	return c.Before != nil && c.After != nil && c.Before.release.Document() == c.After.release.Document() && c.Before.release.Product() == c.After.release.Product()
}

// OfRelease returns what changes of a release need.
func (p Policy) OfRelease(s *State, name string) map[string]int {
	required := map[string]int{}
	p.release(required, s, name)
	return required
}

// OfProduct returns the most that any channel of a product needs.
func (p Policy) OfProduct(product string) map[string]int {
	required := map[string]int{}
	p.add(required, product, "")
	return required
}

// rule adds what a rule needs, which may be nil.
func (p Policy) rule(required map[string]int, o *Object) {
	if o == nil {
		return
	}
	product, channel := "", ""
	if o.rule.Product != nil {
		product = *o.rule.Product
	}
	if o.rule.Channel != nil {
		channel = *o.rule.Channel
	}
	p.add(required, product, channel)
}

// release adds what a release needs: what the rules, pins and shutoffs need that lead to it.
func (p Policy) release(required map[string]int, s *State, name string) {
	for _, o := range s.leading(name) {
		switch {
		case o.rule != nil:
			p.rule(required, o)
		case o.pin != nil:
			p.add(required, o.pin.Product, o.pin.Channel)
		case o.shutoff != nil:
			p.add(required, o.shutoff.Product, o.shutoff.Channel)
		}
	}
}

// leading returns the rules, pins and shutoffs that lead to a release, also by way of one that consists of others.
func (s *State) leading(name string) []*Object {
	names := map[string]bool{name: true}
	for r, o := range s.objects {
		if r.Kind == Release && o.release.Schema() == aus.SchemaSuperblob {
			for _, inner := range o.release.Parts() {
				if inner == name {
					names[r.Key] = true
				}
			}
		}
	}
	leads := func(to *string) bool { return to != nil && names[*to] }
	var list []*Object
	for _, o := range s.objects {
		if o.rule != nil && (leads(o.rule.Mapping) || leads(o.rule.FallbackMapping)) ||
			o.pin != nil && names[o.pin.Mapping] || o.shutoff != nil && o.shutoff.Instead != "" && names[o.shutoff.Instead] {
			list = append(list, o)
		}
	}
	return list
}

// add adds what a product and a channel need; "" is every one, and a channel may end in "*".
func (p Policy) add(required map[string]int, product, channel string) {
	for _, r := range p {
		if product != "" && r.Product != product {
			continue
		}
		prefix, glob := strings.CutSuffix(channel, "*")
		if channel != "" && r.Channel != channel && (!glob || !strings.HasPrefix(r.Channel, prefix)) {
			continue
		}
		for role, n := range r.Roles {
			required[role] = max(required[role], n)
		}
	}
}

// Products returns the products that an object is about; none is every product.
func (o *Object) Products() []string {
	one := func(product string) []string {
		if product == "" {
			return nil
		}
		return []string{product}
	}
	switch o.Kind {
	case Rule:
		if o.rule.Product != nil {
			return one(*o.rule.Product)
		}
	case Release:
		return one(o.release.Product())
	case Pin:
		return one(o.pin.Product)
	case Shutoff:
		return one(o.shutoff.Product)
	case Host:
		list := append([]string{}, o.host.Products...)
		for _, p := range o.host.Paths {
			list = append(list, p.Products...)
		}
		return list
	}
	return nil
}

// Errors that keep operations from being published, besides ErrConflict and ErrObject.
var (
	// ErrSignOff says that people must agree first. The error is a [*SignOffError].
	ErrSignOff = errors.New("state: sign-offs are missing")
	// ErrScheduled says that a change contradicts one that is scheduled. The error is a [*ScheduledError].
	ErrScheduled = errors.New("state: a scheduled change is in the way")
)

// SignOffError says who must agree before something is published.
type SignOffError struct {
	Required map[string]int // people by role
	Missing  map[string]int // of these, who has not agreed
	Changed  []Ref          // what has changed since people agreed, so that their sign-offs do not count
}

func (e *SignOffError) Error() string {
	s := "this needs sign-offs of " + people(e.Required)
	if len(e.Changed) > 0 {
		var names []string
		for _, r := range e.Changed {
			names = append(names, r.String())
		}
		return s + ", and those of the draft count no more: " + strings.Join(names, ", ") + " changed since; rebase the draft"
	}
	return s + "; missing are " + people(e.Missing)
}

// people writes how many of which roles.
func people(n map[string]int) string {
	var list []string
	for _, role := range slices.Sorted(maps.Keys(n)) {
		list = append(list, fmt.Sprintf("%d of %s", n[role], role))
	}
	return strings.Join(list, ", ")
}

// Is makes errors.Is(err, ErrSignOff) true.
func (e *SignOffError) Is(target error) bool { return target == ErrSignOff }

// ScheduledError says which scheduled change is in the way of another one, and which columns both change; none: the object would be
// removed.
type ScheduledError struct {
	Draft   int64
	Ref     Ref
	Columns []string
}

func (e *ScheduledError) Error() string {
	s := fmt.Sprintf("%v: draft %d of %s", ErrScheduled, e.Draft, e.Ref)
	if len(e.Columns) > 0 {
		s += " changes " + strings.Join(e.Columns, ", ") + ", too"
	}
	return s
}

// Is makes errors.Is(err, ErrScheduled) true.
func (e *ScheduledError) Is(target error) bool { return target == ErrScheduled }
