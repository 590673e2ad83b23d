package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// acceptedFile holds the policies that were accepted last, below the data
// folder: a control plane that restarts over a broken folder serves them.
const acceptedFile = "accepted.yaml"

// load is one accepted load, compiled.
type load struct {
	set        *policy.Set
	model      *ir.Model
	objectives []slo.Objective
	boundsUS   []int64
	breakers   []telemetry.Route
	routes     []telemetry.Route // all, those with breakers included
	at         time.Time
}

// loader reads the policies at start and after each edit. What it accepts goes
// to apply; what it refuses changes nothing but what refused shows.
type loader struct {
	log         *slog.Logger
	paths       []string
	listen      string                        // for the default Edge
	listenAsked bool                          // by the user
	problems    string                        // prefix of problem types; "" = the default
	accepted    string                        // file of the last accepted policies
	apply       func(load)                    // called with the newest, one at a time; must not block
	remember    func([]telemetry.Route) error // makes routes durable before they are in force

	compiling sync.Mutex // held from compiling to applying, so that the newest is applied last

	mu       sync.Mutex // guards what follows
	forced   []compile.Override
	inForce  load
	refusal  *api.RefusedLoad
	accepts  uint64
	refusals uint64
}

// RefusedError is a first load that had errors, where no earlier policies are
// there to serve.
type RefusedError struct{ findings diag.List }

// Error is one line; the findings say the rest.
func (e *RefusedError) Error() string {
	return "the policies have errors, and none were accepted before"
}

// Hint says what to do.
func (e *RefusedError) Hint() string { return "mend them; `seawall validate` checks without starting" }

// Diagnostics are the findings.
func (e *RefusedError) Diagnostics() diag.List { return e.findings }

// pathError is about a path of -p that cannot be read.
type pathError struct{ err error }

// Error is one line that names the path.
func (e *pathError) Error() string { return e.err.Error() }

// Unwrap is what the system said.
func (e *pathError) Unwrap() error { return e.err }

// Hint says what to do.
func (e *pathError) Hint() string {
	if errors.Is(e.err, fs.ErrPermission) {
		return "let this user read it, or name another path with -p"
	}
	return "-p takes a policy file, or a folder with *.yaml files"
}

// first loads what is served from the start: the policies, or where they have
// errors the ones that an earlier run over the same data folder accepted.
func (l *loader) first() error {
	refused, err := l.load(l.paths)
	if err != nil {
		return err
	}
	if refused == nil {
		return nil
	}
	if _, err := os.Stat(l.accepted); errors.Is(err, fs.ErrNotExist) {
		return &RefusedError{refused}
	}
	again, err := l.load([]string{l.accepted})
	if err != nil {
		return err
	}
	if again != nil {
		return &RefusedError{refused}
	}
	l.log.Error("the policies have errors; serving those that were accepted last", "file", l.accepted, "errors", len(refused))
	l.refuse(refused)
	return nil
}

// watch loads again after each change, until ctx ends.
func (l *loader) watch(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- policy.Watch(ctx, l.log, Debounce, l.paths, func() {
			select {
			case changed <- struct{}{}:
			default: // one is waiting already, and will see this change too
			}
		})
	}()
	for {
		select {
		case <-changed:
			refused, err := l.load(l.paths)
			if err != nil {
				refused = diag.List{{Code: diag.FileUnreadable, Severity: diag.Error, Message: err.Error(), Hint: "the policies before stay in force until it can be read again"}}
			}
			if refused != nil {
				l.refuse(refused)
			}
		case err := <-done:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch policies: %w", err)
		}
	}
}

// load reads and compiles paths and puts the result in force. It returns the
// findings where they forbid that.
func (l *loader) load(paths []string) (refused diag.List, err error) {
	started := time.Now()
	set, findings, err := policy.Load(paths...)
	if err != nil {
		return nil, &pathError{err}
	}
	if set == nil {
		return findings, nil
	}
	if len(set.Services) == 0 {
		return append(findings, diag.Diagnostic{
			Code: diag.NothingFound, Severity: diag.Error, Pos: diag.Pos{File: strings.Join(paths, ", ")},
			Message: "no Service is there, so that nothing could be served", Hint: "is this the right folder?",
		}), nil
	}
	l.compiling.Lock()
	defer l.compiling.Unlock()
	next, err := compileLoad(set, compile.Options{Listen: l.listen, ProblemTypeBase: l.problems, Overrides: l.overrides(), Now: started})
	if err != nil {
		return nil, err
	}
	next.at = started
	for _, d := range findings {
		l.log.Warn("policy", "code", d.Code, "file", d.Pos.File, "line", d.Pos.Line, "path", d.Path, "message", d.Message)
	}
	if l.listenAsked && len(set.Edges) > 0 {
		l.log.Warn("--listen is not used: an Edge policy says where to listen", "edge", set.Edges[0].Metadata.Name, "file", set.Edges[0].Pos.File)
	}
	if err := l.keep(set); err != nil {
		l.log.Error("the accepted policies could not be kept for the next start", "file", l.accepted, "error", err)
	}
	// What filters count by them is believed also by a process after this one.
	if hasNew(next.routes, l.current().routes) {
		if err := l.remember(next.routes); err != nil {
			l.log.Error("the routes could not be kept: what is counted of new ones is lost if this process is killed now", "error", err)
		}
	}
	l.mu.Lock()
	before := l.inForce.set
	l.inForce, l.refusal = next, nil
	l.accepts++
	l.apply(next)
	l.mu.Unlock()
	if before == nil || before.Hash != set.Hash {
		l.log.Info("policies in force", "hash", set.Hash, "services", len(set.Services), "took", time.Since(started).Round(time.Microsecond).String())
	}
	return nil, nil
}

// hasNew reports whether one of routes is not among those before.
func hasNew(routes, before []telemetry.Route) bool {
	known := make(map[telemetry.Route]bool, len(before))
	for _, r := range before {
		known[r] = true
	}
	return slices.ContainsFunc(routes, func(r telemetry.Route) bool { return !known[r] })
}

func (l *loader) refuse(findings diag.List) {
	errs := 0
	for _, d := range findings {
		if d.Severity == diag.Error {
			errs++
			l.log.Error("policy", "code", d.Code, "file", d.Pos.File, "line", d.Pos.Line, "path", d.Path, "message", d.Message)
		}
	}
	l.mu.Lock()
	l.refusal = &api.RefusedLoad{At: time.Now(), Findings: findings}
	l.refusals++
	hash := l.inForce.set.Hash
	l.mu.Unlock()
	l.log.Error("policies refused, the ones before stay in force", "errors", errs, "inForce", hash, "see", "seawall status")
}

// keep writes the accepted policies aside, whole or not at all.
func (l *loader) keep(set *policy.Set) error {
	var text bytes.Buffer
	if err := set.Encode(&text); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(l.accepted), acceptedFile+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(text.Bytes())
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), l.accepted)
}

// force puts other overrides of breakers into force, on the policies that are.
func (l *loader) force(overrides []override.Override) error {
	var forced []compile.Override
	for _, o := range overrides {
		if o.Kind == override.Breaker {
			forced = append(forced, compile.Override{Service: o.Service, Route: o.Route, State: o.State, NotAfter: o.Until})
		}
	}
	l.compiling.Lock()
	defer l.compiling.Unlock()
	l.mu.Lock()
	same := slices.Equal(l.forced, forced)
	l.forced = forced
	before := l.inForce
	l.mu.Unlock()
	if same || before.set == nil {
		return nil // nothing to do with breakers, or the first load is still to come
	}
	next, err := compileLoad(before.set, compile.Options{Listen: l.listen, ProblemTypeBase: l.problems, Overrides: forced, Now: time.Now()})
	if err != nil {
		return err
	}
	next.at = before.at
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inForce = next
	l.apply(next)
	return nil
}

func (l *loader) overrides() []compile.Override {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forced
}

// known reports whether the policies in force have such a breaker or service.
func (l *loader) known(k override.Key) bool {
	if k.Kind == override.Release {
		return l.names(k.Service)
	}
	return slices.Contains(l.current().breakers, telemetry.Route{Service: k.Service, Route: k.Route})
}

// names reports whether the policies in force name the service. It need not be
// a Service: Istio or Envoy Gateway may own it.
func (l *loader) names(service string) bool {
	set := l.current().set
	return slices.ContainsFunc(set.Services, func(s policy.Service) bool { return s.Metadata.Name == service }) ||
		slices.ContainsFunc(set.Policies, func(p policy.ResiliencePolicy) bool { return p.Spec.Service == service }) ||
		slices.ContainsFunc(set.SLOs, func(o policy.ServiceLevelObjective) bool { return o.Spec.Service == service })
}

func (l *loader) current() load {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inForce
}

func (l *loader) refused() *api.RefusedLoad {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

func (l *loader) counts() (accepts, refusals uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepts, l.refusals
}

// compileLoad makes of a valid set all that is served and counted by it.
func compileLoad(set *policy.Set, opt compile.Options) (load, error) {
	model, err := compile.Compile(set, opt)
	if err != nil {
		return load{}, fmt.Errorf("compile policies: %w", err)
	}
	l := load{set: set, model: model, objectives: compile.Objectives(set)}
	for _, e := range model.Edges {
		plan, err := contract.ParsePlan(e.Filter.PlanJSON)
		if err != nil {
			return load{}, fmt.Errorf("plan of edge %s: %w", e.Name, err)
		}
		l.boundsUS = append(l.boundsUS, plan.LatencyBoundsUS...)
		for _, r := range plan.Routes {
			l.routes = append(l.routes, telemetry.Route{Service: r.Service, Route: r.Route})
			if r.Breaker != nil {
				l.breakers = append(l.breakers, telemetry.Route{Service: r.Service, Route: r.Route})
			}
		}
	}
	slices.Sort(l.boundsUS)
	l.boundsUS = slices.Compact(l.boundsUS)
	slices.SortFunc(l.breakers, func(a, b telemetry.Route) int {
		return strings.Compare(a.Service+"/"+a.Route, b.Service+"/"+b.Route)
	})
	l.breakers = slices.Compact(l.breakers)
	return l, nil
}
