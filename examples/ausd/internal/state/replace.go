package state

import "maps"

// Replace makes a state of which some objects are others, or gone. It looks at nothing else: what is put in was another state's.
func (s *State) Replace(objects []*Object, gone []Ref) *State {
	next := &State{objects: maps.Clone(s.objects)}
	if next.objects == nil {
		next.objects = make(map[Ref]*Object, len(objects))
	}
	for _, o := range objects {
		next.objects[o.Ref] = o
	}
	for _, r := range gone {
		delete(next.objects, r)
	}
	return next
}

// Changes says what is different in another state, in no order.
func (s *State) Changes(to *State) []Changed {
	var changes []Changed
	for r, o := range s.objects {
		switch n := to.objects[r]; {
		case n == nil:
			changes = append(changes, Changed{r, o, nil})
		case n.Hash != o.Hash:
			changes = append(changes, Changed{r, o, n})
		}
	}
	for r, o := range to.objects {
		if s.objects[r] == nil {
			changes = append(changes, Changed{r, nil, o})
		}
	}
	return changes
}
