package ir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
)

// MaxPlanRoutes is the most routes that the filter takes in one plan
// (contract.MaxRoutes); beyond it vanished routes are not kept.
const MaxPlanRoutes = 4096

// Retire returns next with the routes of prev that it no longer has, marked
// retired in the plan. RDS and ECDS are not atomic: a request that was routed
// by the previous RouteConfiguration still finds its route in the plan, so it
// is counted, and its breaker is settled. Routes that were already retired in
// prev are dropped: they are kept for one generation.
//
// PlanHash stays that of next, since it does not cover retired routes. Where
// nothing has vanished, or a plan is not JSON, next comes back unchanged.
func Retire(next, prev Edge) Edge {
	merged, err := retirePlan(next.Filter.PlanJSON, prev.Filter.PlanJSON)
	if err != nil || merged == nil {
		return next
	}
	next.Filter.PlanJSON = merged
	return next
}

// planRoute is what Retire needs to know of a route of the plan; the rest
// travels as it is.
type planRoute struct {
	Name    string `json:"name"`
	Retired bool   `json:"retired"`

	raw json.RawMessage
}

// retirePlan returns nil where no route has to be kept.
func retirePlan(nextJSON, prevJSON []byte) ([]byte, error) {
	if len(nextJSON) == 0 || len(prevJSON) == 0 {
		return nil, nil
	}
	top, err := members(nextJSON)
	if err != nil {
		return nil, err
	}
	next, err := planRoutes(nextJSON)
	if err != nil {
		return nil, err
	}
	prev, err := planRoutes(prevJSON)
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(next))
	for _, r := range next {
		have[r.Name] = true
	}
	live := len(next)
	for _, r := range prev {
		if r.Retired || have[r.Name] || len(next) >= MaxPlanRoutes {
			continue
		}
		raw, err := setMember(r.raw, "retired", json.RawMessage("true"))
		if err != nil {
			return nil, err
		}
		next = append(next, planRoute{Name: r.Name, raw: raw})
	}
	if len(next) == live {
		return nil, nil
	}
	sort.SliceStable(next, func(i, j int) bool { return next[i].Name < next[j].Name })

	raws := make([]json.RawMessage, len(next))
	for i, r := range next {
		raws[i] = r.raw
	}
	for i := range top {
		if top[i].name == "routes" {
			top[i].value = joinArray(raws)
		}
	}
	return joinObject(top)
}

func planRoutes(plan []byte) ([]planRoute, error) {
	var p struct {
		Routes []json.RawMessage `json:"routes"`
	}
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	routes := make([]planRoute, len(p.Routes))
	for i, raw := range p.Routes {
		if err := json.Unmarshal(raw, &routes[i]); err != nil {
			return nil, fmt.Errorf("plan route %d: %w", i, err)
		}
		routes[i].raw = raw
	}
	return routes, nil
}

// member is one member of a JSON object. Going through members instead of a
// map keeps the order in which package compile wrote them, and through raw
// values keeps members that this package does not know.
type member struct {
	name  string
	value json.RawMessage
}

func members(object []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("plan: not a JSON object")
	}
	var list []member
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		m := member{name: t.(string)} // the decoder allows nothing else here
		if err := dec.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("plan: %s: %w", m.name, err)
		}
		list = append(list, m)
	}
	return list, nil
}

func setMember(object []byte, name string, value json.RawMessage) ([]byte, error) {
	list, err := members(object)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].name == name {
			list[i].value = value
			return joinObject(list)
		}
	}
	return joinObject(append(list, member{name, value}))
}

func joinObject(list []member) ([]byte, error) {
	out := []byte{'{'}
	for i, m := range list {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), m.value...)
	}
	return append(out, '}'), nil
}

func joinArray(items []json.RawMessage) json.RawMessage {
	out := []byte{'['}
	for i, item := range items {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, item...)
	}
	return append(out, ']')
}
