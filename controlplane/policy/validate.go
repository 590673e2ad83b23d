package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// world is all objects of a load, by what others refer to them with. Objects
// with findings are in it too, so that one mistake is told once.
type world struct {
	objects    []*object
	services   map[string]*object
	flags      map[string]*object
	policies   map[string]*object // by the service that they guard
	incomplete bool               // documents are missing: unknown names prove nothing
}

// validate adds what is wrong with the objects, alone and together, to their
// findings. The rules stand in the rules_*.go files, by topic.
func validate(objects []*object, incomplete bool) {
	// Of two places, the later one is the finding; later means by file, then by line.
	slices.SortStableFunc(objects, func(a, b *object) int {
		pa, pb := a.place("metadata.name"), b.place("metadata.name")
		if c := strings.Compare(pa.File, pb.File); c != 0 {
			return c
		}
		return pa.Line - pb.Line
	})
	w := &world{
		objects: objects, incomplete: incomplete,
		services: map[string]*object{}, flags: map[string]*object{}, policies: map[string]*object{},
	}
	w.uniqueNames()
	w.onePolicyPerService()
	w.edges()
	w.serviceRules()
	fileRules(objects)
	for _, o := range objects {
		switch o.kind {
		case KindResiliencePolicy:
			w.policyRules(o, spec[ResiliencePolicy](o).Spec)
		case KindServiceLevelObjective:
			w.objectiveRules(o, spec[ServiceLevelObjective](o).Spec)
		case KindChaosExperiment:
			w.experimentRules(o, spec[ChaosExperiment](o).Spec)
		case KindFeatureFlag:
			w.flagRules(o, spec[FeatureFlag](o).Spec)
		}
	}
}

func spec[T any](o *object) T { return o.value.Interface().(T) }

func (w *world) uniqueNames() {
	first := map[string]*object{}
	for _, o := range w.objects {
		if o.name == "" {
			w.incomplete = true
			continue
		}
		key := o.kind + "/" + o.name
		if other := first[key]; other != nil {
			o.fail(diag.DuplicateObject, "metadata.name", "", "%s %q already exists at %s", o.kind, o.name, other.place("metadata.name"))
			continue
		}
		first[key] = o
		switch o.kind {
		case KindService:
			w.services[o.name] = o
		case KindFeatureFlag:
			w.flags[o.name] = o
		}
	}
}

func (w *world) onePolicyPerService() {
	for _, o := range w.objects {
		if o.kind != KindResiliencePolicy || o.isBad("spec.service") {
			continue
		}
		service := spec[ResiliencePolicy](o).Spec.Service
		if other := w.policies[service]; other != nil {
			o.fail(diag.SecondPolicy, "spec.service", "put all routes into one policy: the first match wins, and between files there is no order",
				"service %q already has the policy %q at %s", service, other.name, other.place("spec.service"))
			continue
		}
		w.policies[service] = o
	}
}

// refers reports a name that nothing has, unless something could not be read.
func (w *world) refers(o *object, code, path, what, name string, known []string) bool {
	if name == "" || w.incomplete || slices.Contains(known, name) || o.isBad(path) {
		return true
	}
	hint := "there is none"
	if len(known) > 0 {
		hint = diag.DidYouMean(name, known)
	}
	o.fail(code, path, hint, "no %s named %q", what, name)
	return false
}

func (w *world) service(o *object, path, name string) bool {
	return w.refers(o, diag.UnknownService, path, "Service", name, sortedNames(w.services))
}

// routesOf lists the routes of a service; ok is false where they cannot be
// known for certain.
func (w *world) routesOf(service string) (routes []Route, ok bool) {
	p := w.policies[service]
	if p == nil {
		return nil, !w.incomplete && w.services[service] != nil
	}
	return spec[ResiliencePolicy](p).Spec.Routes, !p.isBad("spec.routes")
}

// route checks the name of a route of a service.
func (w *world) route(o *object, path, service, name string) {
	routes, ok := w.routesOf(service)
	if !ok {
		return
	}
	names := make([]string, len(routes))
	for i := range routes {
		names[i] = routes[i].Name
	}
	w.refers(o, diag.UnknownRoute, path, "route of "+service, name, names)
}

func sortedNames(m map[string]*object) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// fail adds a finding at a path of the object.
func (o *object) fail(code, path, hint, format string, args ...any) {
	line, column := o.locate(path)
	o.add(code, line, column, path, fmt.Sprintf(format, args...), hint)
}

// place is where a path stands in the file.
func (o *object) place(path string) diag.Pos {
	return o.pos(o.locate(path))
}

// locate finds the line and column of a path: of the value, or of the nearest
// key above where the file does not have it.
func (o *object) locate(path string) (line, column int) {
	n := o.root
	line, column = n.line, n.column
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		e := n.child(name)
		if e == nil {
			return line, column
		}
		line, column = e.line, e.column // the key's, until the value is known to be the end
		n = e.value
		if indexed {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || i >= len(n.items) {
				return line, column
			}
			n = n.items[i]
			line, column = n.line, n.column
		}
	}
	return n.line, n.column
}
