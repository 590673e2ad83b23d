package server

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// unsure is the known version of a resource that was in a rejected response:
// Envoy may or may not have taken it.
const unsure = "?"

// subscription is the state of one type on one stream, by the rules of the
// xDS protocol's incremental variant. At most one response is outstanding.
type subscription struct {
	asked    bool // there was a request of this type
	wildcard bool
	greeted  bool // a response was sent
	names    map[string]bool
	forced   map[string]bool   // subscribed anew: to be answered whatever is known
	known    map[string]string // what the client has, name → version
	pending  *pending

	// What is worked out from known, until it changes: its version as a whole,
	// and the set that it equals. A thousand nodes would feel it otherwise.
	version string
	hashed  bool
	equals  *resourceSet
}

func (s *subscription) changed() { s.hashed, s.equals = false, nil }

// holds is the version of all that the client has, "" of nothing.
func (s *subscription) holds() string {
	if s.equals != nil {
		return s.equals.version
	}
	if !s.hashed {
		s.version, s.hashed = versionOf(s.known), true
	}
	return s.version
}

// pending is a response that is neither acknowledged nor rejected yet.
type pending struct {
	nonce    string
	versions map[string]string
	removed  []string
}

// request takes in the subscription part of a request.
func (s *subscription) request(k kind, req *discoveryv3.DeltaDiscoveryRequest) {
	if !s.asked || len(req.GetResourceNamesUnsubscribe()) > 0 {
		s.changed()
	}
	if !s.asked {
		s.asked = true
		s.names, s.forced = map[string]bool{}, map[string]bool{}
		s.known = maps.Clone(req.GetInitialResourceVersions())
		if s.known == nil {
			s.known = map[string]string{}
		}
		// The old way to ask for everything; Envoy still uses it.
		s.wildcard = kinds[k].wildcard && len(req.GetResourceNamesSubscribe()) == 0
		s.greeted = len(s.known) > 0
		for _, name := range req.GetResourceNamesSubscribe() {
			if _, has := s.known[name]; !has {
				s.forced[name] = true
			}
			s.subscribe(name)
		}
	} else {
		for _, name := range req.GetResourceNamesSubscribe() {
			s.forced[name] = true
			s.subscribe(name)
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if name == "*" {
			s.wildcard = false
			continue
		}
		delete(s.names, name)
		delete(s.forced, name)
		if s.wildcard {
			s.known[name] = unsure // the protocol wants it told anew
		} else {
			delete(s.known, name)
		}
	}
}

func (s *subscription) subscribe(name string) {
	if name == "*" {
		s.wildcard = true
		delete(s.forced, name)
		return
	}
	s.names[name] = true
}

func (s *subscription) wants(name string) bool { return s.wildcard || s.names[name] }

// replaces are the resources of the pending response that the client has in
// another form.
func (s *subscription) replaces() (names []string) {
	for name, version := range s.pending.versions {
		if had, has := s.known[name]; has && had != version {
			names = append(names, name)
		}
	}
	return names
}

// again has resources sent though the client has them. Envoy makes a cluster
// that changes anew, and the new one waits for its endpoints, which Envoy does
// not ask for again: for 15 s, the old one serving and the clusters not
// acknowledged meanwhile.
func (s *subscription) again(names []string) {
	for _, name := range names {
		if s.asked && s.names[name] {
			s.forced[name] = true
		}
	}
}

// ack settles the pending response as taken.
func (s *subscription) ack() *pending {
	p := s.pending
	s.pending = nil
	s.changed()
	for name, version := range p.versions {
		if s.wants(name) {
			s.known[name] = version
		}
	}
	for _, name := range p.removed {
		delete(s.known, name)
	}
	return p
}

// nack settles the pending response as rejected. Envoy takes a lone filter
// configuration whole or not at all; of several clusters or listeners it may
// have taken some.
func (s *subscription) nack(k kind) *pending {
	p := s.pending
	s.pending = nil
	s.changed()
	if k == ecds {
		return p
	}
	for name := range p.versions {
		if s.wants(name) {
			s.known[name] = unsure
		}
	}
	return p
}

// has reports whether the client has acknowledged all of set, and, where
// exactly is true, nothing else.
func (s *subscription) has(set *resourceSet, exactly bool) bool {
	if s.pending != nil {
		return false
	}
	if s.equals == set {
		return true
	}
	for _, name := range set.names {
		if s.known[name] != set.byName[name].GetVersion() {
			return false
		}
	}
	if len(s.known) == len(set.names) {
		s.equals = set
		return true
	}
	return !exactly
}

// hasAsked is has for what the client subscribes to only.
func (s *subscription) hasAsked(set *resourceSet) bool {
	if s.pending != nil {
		return false
	}
	for _, name := range set.names {
		if s.wants(name) && s.known[name] != set.byName[name].GetVersion() {
			return false
		}
	}
	return true
}

// view is what a node is shown of one type. A nil set leaves what it has
// alone; without removals, resources outside the set are left alone.
type view struct {
	set      *resourceSet
	removals bool
}

// shows reports whether one of versions is in the view.
func (v view) shows(versions map[string]string) bool {
	for name, version := range versions {
		if v.set != nil && v.set.byName[name].GetVersion() == version {
			return true
		}
	}
	return false
}

// next returns the response that brings the client to v, nil if it is there
// or has one outstanding. What held says is not sent again unless asked for.
func (s *subscription) next(k kind, v view, held func(name, version string) bool) *discoveryv3.DeltaDiscoveryResponse {
	if !s.asked || s.pending != nil || v.set == nil {
		return nil
	}
	p := &pending{versions: map[string]string{}}
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kinds[k].url, SystemVersionInfo: v.set.version}
	for _, name := range v.set.names {
		r := v.set.byName[name]
		if !s.wants(name) {
			continue
		}
		if !s.forced[name] && (s.known[name] == r.GetVersion() || held(name, r.GetVersion())) {
			continue
		}
		resp.Resources = append(resp.Resources, r)
		p.versions[name] = r.GetVersion()
		delete(s.forced, name)
	}
	if v.removals {
		for name := range s.known {
			if v.set.byName[name] == nil && !held(name, "") {
				p.removed = append(p.removed, name)
			}
		}
		for name := range s.forced { // asked for, and there is no such thing
			if _, has := s.known[name]; !has && v.set.byName[name] == nil {
				p.removed = append(p.removed, name)
			}
			delete(s.forced, name)
		}
		slices.Sort(p.removed)
		resp.RemovedResources = p.removed
	}
	// Envoy waits at start for the first answer to a wildcard, even an empty one.
	if len(resp.GetResources()) == 0 && len(p.removed) == 0 && (s.greeted || !s.wildcard) {
		return nil
	}
	s.greeted = true
	s.pending = p
	return resp
}
