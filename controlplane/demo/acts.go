package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const (
	chargePath  = "/v1/charges"
	refundPath  = "/v1/refunds"
	paymentPath = "/v1/payments"

	transferPath = "/v1/transfers"
	reportPath   = "/v1/reports"
	perTry       = 400 * time.Millisecond // of transfer
)

// world is what the acts are played in.
type world struct {
	*screen
	up      *upstream.Server
	client  *client
	admin   string
	policy  string  // file
	charges answers // all that were made, for the last act
}

// play runs the acts in order and sums up.
func (w *world) play(ctx context.Context) error {
	start := time.Now()
	for _, act := range []func(context.Context) error{w.allIsWell, w.providerDown, w.providerBack, w.glitches, w.duplicates, w.slow, w.deadline, w.reports, w.edit, w.budget} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintln(w.out)
	w.title("%d of %d checks held, in %s", w.passed, w.passed+w.failed, time.Since(start).Round(time.Second))
	if w.failed > 0 {
		return ErrBroken
	}
	return nil
}

// charge makes n charges and remembers them.
func (w *world) charge(ctx context.Context, n int) (answers, error) {
	as, err := w.client.calls(ctx, n, http.MethodPost, chargePath)
	w.charges = append(w.charges, as...)
	return as, err
}

// since counts the upstream's calls below path from now on.
func (w *world) since(path string) func() int {
	before := w.up.Calls(path)
	return func() int { return int(w.up.Calls(path) - before) }
}

func (w *world) allIsWell(ctx context.Context) error {
	w.begin("All is well", "Fifty charges. The filter is in the way of each, and nobody should notice.")
	w.up.Set(chargePath, upstream.Behaviour{Status: http.StatusCreated})
	seen := w.since(chargePath)
	as, err := w.charge(ctx, 50)
	if err != nil {
		return err
	}
	w.saw("client", "%s, median %s", as, as.median())
	w.saw("upstream", "%d calls", seen())
	w.check(as.ok() == 50 && seen() == 50, "every charge was made, once")
	return nil
}

func (w *world) providerDown(ctx context.Context) error {
	w.begin("The payment provider goes down",
		"It answers 503 to every charge. After five in a row the breaker opens, over both of Envoy's workers: from then on callers are told at once, with a Retry-After, and the provider is left in peace.")
	w.up.Set(chargePath, upstream.Behaviour{Status: http.StatusServiceUnavailable})
	w.up.Set(paymentPath, upstream.Behaviour{Status: http.StatusOK})
	seen := w.since(chargePath)
	as, err := w.charge(ctx, 25)
	if err != nil {
		return err
	}
	reads, err := w.client.calls(ctx, 10, http.MethodGet, paymentPath+"/42")
	if err != nil {
		return err
	}
	refused := as.refused()
	w.saw("client", "%s", as)
	w.saw("", "refusals took %s in the median, and say Retry-After", refused.median())
	w.saw("upstream", "%d calls", seen())
	w.check(seen() == 5 && len(refused) == 20, "exactly five reached the provider, the other twenty were refused")
	w.check(refused.count(func(a answer) bool {
		n, err := strconv.Atoi(a.retryAfter)
		return err == nil && n >= 1 && n <= int(demoRecovery.Seconds()) && a.problem == "breaker-open"
	}) == len(refused), "each refusal is a problem document with the seconds left")
	w.check(reads.ok() == 10, "reading payments goes on: a breaker is of one route")
	return w.checkBreaker(ctx, "charge", "open")
}

func (w *world) providerBack(ctx context.Context) error {
	w.begin("The provider comes back",
		"Once the recovery time is over, a few probes are let through. Three successes close the breaker.")
	w.up.Set(chargePath, upstream.Behaviour{Status: http.StatusCreated})
	start := time.Now()
	refusedMeanwhile := 0
	for {
		as, err := w.charge(ctx, 1)
		if err != nil {
			return err
		}
		if as.ok() == 1 {
			break
		}
		refusedMeanwhile++
		if time.Since(start) > 4*demoRecovery {
			w.check(false, "no charge went through within %s", 4*demoRecovery)
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	recovered := time.Since(start).Round(100 * time.Millisecond)
	as, err := w.charge(ctx, 20)
	if err != nil {
		return err
	}
	w.saw("client", "the first charge went through after %s; then %s", recovered, as)
	w.check(as.ok() == 20, "all twenty charges after it were made")
	return w.checkBreaker(ctx, "charge", "closed")
}

func (w *world) glitches(ctx context.Context) error {
	w.begin("The network glitches",
		"Every fourth call to read a payment is cut off. Reading is safe, so Envoy tries again, by the policy's budget, and callers see none of it.")
	w.up.Set(paymentPath, upstream.Behaviour{Status: http.StatusOK, FailEvery: 4, Failure: &upstream.Behaviour{Reset: true}})
	seen := w.since(paymentPath)
	as, err := w.client.calls(ctx, 60, http.MethodGet, paymentPath+"/42")
	if err != nil {
		return err
	}
	w.up.Set(paymentPath, upstream.Behaviour{Status: http.StatusOK})
	w.saw("client", "%s, median %s", as, as.median())
	w.saw("upstream", "%d calls, of which %d were cut off", seen(), seen()-as.ok())
	w.check(as.ok() == 60, "the client saw no glitch")
	w.check(seen() > 60 && seen() <= 80, "each glitch cost one more try, and no more")
	return nil
}

func (w *world) duplicates(ctx context.Context) error {
	w.begin("Answers get lost on the way back",
		"Every fourth transfer is carried out, and then the connection breaks: nobody knows. The edge gives each transfer a key and sends it again; the provider knows the key, and moves the money once. A client that brings a key of its own and presses twice is charged once, too.")
	charged := upstream.Behaviour{Status: http.StatusCreated, Ledger: true, FailEvery: 4, Failure: &upstream.Behaviour{Ledger: true, Reset: true}}
	w.up.Set(transferPath, charged)
	seen, before := w.since(transferPath), len(w.up.Charges())
	as, err := w.client.calls(ctx, 30, http.MethodPost, transferPath)
	if err != nil {
		return err
	}
	calls := seen()
	w.up.Set(transferPath, upstream.Behaviour{Status: http.StatusCreated, Ledger: true})
	twice, err := w.client.calls(ctx, 2, http.MethodPost, transferPath, "Idempotency-Key", "order-4711")
	if err != nil {
		return err
	}
	ledger := w.up.Charges()[before:]
	keyless := 0
	for _, c := range ledger {
		if c.Key == "" {
			keyless++
		}
	}
	own := ledger[len(ledger)-1]
	w.saw("client", "%s; and twice with the key order-4711: %s", as, twice)
	w.saw("upstream", "%d calls for 30 transfers, and %d charges in the ledger", calls, len(ledger)-1)
	w.check(as.ok() == 30 && calls > 30, "the client saw no glitch, though %d answers were lost", calls-30)
	w.check(len(ledger) == 31 && keyless == 0, "each transfer was charged once, by its key")
	w.check(twice.ok() == 2 && own.Key == "order-4711" && own.Calls == 2, "the client's own key was kept: one charge for two clicks")
	return nil
}

func (w *world) slow(ctx context.Context) error {
	w.begin("The provider is slow, now and then",
		"Every third transfer would take three seconds. A try may take 0.4 s: then Envoy gives it up and asks again, with the same key.")
	w.up.Set(transferPath, upstream.Behaviour{Status: http.StatusCreated, Ledger: true, FailEvery: 3, Failure: &upstream.Behaviour{Status: http.StatusCreated, Ledger: true, Latency: 3 * time.Second}})
	seen, before := w.since(transferPath), len(w.up.Charges())
	as, err := w.client.calls(ctx, 12, http.MethodPost, transferPath)
	if err != nil {
		return err
	}
	charges := len(w.up.Charges()) - before
	w.saw("client", "%s, the slowest took %s", as, as.slowest())
	w.saw("upstream", "%d calls, %d charges", seen(), charges)
	w.check(as.ok() == 12 && seen() > 12 && charges == 12, "each transfer was made, once")
	w.check(as.slowest() >= perTry && as.slowest() < 3*time.Second, "nobody waited the three seconds")
	return nil
}

func (w *world) deadline(ctx context.Context) error {
	w.begin("A caller that has no time",
		"It says in x-deadline-ms how long it still waits. One whose time is over is answered without a call; another's call is cut off when its time ends, and the provider is told how much there is.")
	w.up.Set(transferPath, upstream.Behaviour{Status: http.StatusCreated, Latency: 3 * time.Second})
	seen := w.since(transferPath)
	spent, err := w.client.calls(ctx, 5, http.MethodPost, transferPath, "x-deadline-ms", "0")
	if err != nil {
		return err
	}
	spentCalls := seen()
	short, err := w.client.calls(ctx, 1, http.MethodPost, transferPath, "x-deadline-ms", "200")
	if err != nil {
		return err
	}
	w.up.Set(transferPath, upstream.Behaviour{Status: http.StatusCreated, Ledger: true})
	told := ""
	if records := w.up.Records(); len(records) > 0 {
		told = records[len(records)-1].Headers.Get("x-seawall-deadline-ms")
	}
	ms, err := strconv.Atoi(told)
	w.saw("client", "%s without time; with 0.2 s: %s after %s", spent, short, short.slowest())
	w.saw("upstream", "%d calls for the five without time; the other said it had %s ms", spentCalls, told)
	w.check(len(spent.decided("deadline")) == 5 && spentCalls == 0, "who has no time left costs the provider nothing")
	w.check(short[0].status == http.StatusGatewayTimeout && short.slowest() < 2*time.Second, "a call ends with its caller's time, not with the policy's")
	w.check(err == nil && ms > 0 && ms <= 200, "the provider knew its time")
	return nil
}

func (w *world) reports(ctx context.Context) error {
	w.begin("Analytics is down",
		"Reports hang, and forty people ask for one. Five calls are under way and five wait a second; the rest are told at once. Payments go on next door.")
	w.up.Set(reportPath, upstream.Behaviour{Status: http.StatusOK, Latency: 2 * time.Second})
	seen := w.since(reportPath)
	type result struct {
		as  answers
		err error
	}
	reports := make(chan result, 1)
	go func() {
		as, err := w.client.together(ctx, 40, http.MethodGet, reportPath+"/daily")
		reports <- result{as, err}
	}()
	payments, err := w.client.calls(ctx, 30, http.MethodGet, paymentPath+"/42")
	got := <-reports
	w.up.Set(reportPath, upstream.Behaviour{Status: http.StatusOK})
	if err := errors.Join(err, got.err); err != nil {
		return err
	}
	w.saw("client", "reports: %s", got.as)
	w.saw("", "payments meanwhile: %s, median %s", payments, payments.median())
	w.saw("upstream", "%d reports", seen())
	w.check(got.as.ok() == 5 && seen() == 5, "the pool of five let five in")
	w.check(len(got.as.decided("bulkhead-full")) == 30 && len(got.as.decided("bulkhead-timeout")) == 5, "thirty were refused at once, five after they had waited")
	w.check(payments.ok() == 30, "no payment was touched")
	return nil
}

func (w *world) edit(ctx context.Context) error {
	w.begin("A policy is edited while traffic flows",
		"The breaker of `refund` is open. The threshold of `charge` is lowered from 5 to 2 and the file saved. Requests in flight are not disturbed, refunds stay refused, and two failures are now enough.")
	w.up.Set(refundPath, upstream.Behaviour{Status: http.StatusServiceUnavailable})
	if _, err := w.client.calls(ctx, 5, http.MethodPost, refundPath); err != nil {
		return err
	}
	stopTraffic := w.traffic(ctx)
	took, err := w.save(ctx, "consecutiveFailures: 5", "consecutiveFailures: 2")
	flowed, trafficErr := stopTraffic()
	if err := errors.Join(err, trafficErr); err != nil {
		return err
	}
	refunds := w.since(refundPath)
	stillOpen, err := w.client.calls(ctx, 5, http.MethodPost, refundPath)
	if err != nil {
		return err
	}
	w.up.Set(chargePath, upstream.Behaviour{Status: http.StatusServiceUnavailable})
	seen := w.since(chargePath)
	as, err := w.charge(ctx, 10)
	if err != nil {
		return err
	}
	w.up.Set(chargePath, upstream.Behaviour{Status: http.StatusCreated})
	w.saw("client", "%d reads during the edit: %s", len(flowed), flowed)
	w.saw("workers", "all said the new plan %s after the file was saved", took.Round(time.Millisecond))
	w.saw("upstream", "%d charges, %d refunds", seen(), refunds())
	w.check(flowed.ok() == len(flowed) && len(flowed) > 0, "no request was lost or failed")
	w.check(len(stillOpen.refused()) == 5 && refunds() == 0, "the open breaker of `refund` stayed open")
	w.check(seen() == 2 && len(as.refused()) == 8, "the new threshold holds: two calls, then eight refusals")
	return nil
}

func (w *world) budget(ctx context.Context) error {
	w.begin("What the error budget paid",
		"99.9 % of charges are promised. Every charge of this play was counted, once, whether the provider or Seawall answered it.")
	total, bad := len(w.charges), len(w.charges)-w.charges.ok()
	var got slo
	err := await(ctx, 10*time.Second, func() (bool, error) {
		var list struct {
			Items []slo `json:"items"`
		}
		if err := ask(ctx, w.admin, "slos", &list); err != nil {
			return false, err
		}
		if len(list.Items) != 1 {
			return false, fmt.Errorf("the API has %d objectives, not 1", len(list.Items))
		}
		got = list.Items[0]
		return got.Total == uint64(total) && got.Bad == uint64(bad), nil
	})
	if err != nil && !errors.Is(err, errLate) {
		return err
	}
	w.saw("client", "%d charges, %d of them failed or refused", total, bad)
	w.saw("slo", "%d requests, %d bad: attained %s, %s of the budget consumed", got.Total, got.Bad, percent(got.Attained), percent(got.Budget.Consumed))
	w.check(got.Total == uint64(total) && got.Bad == uint64(bad), "the objective counts exactly what the client saw")
	w.check(got.Budget.Consumed != nil && *got.Budget.Consumed > 1 && got.Budget.Remaining < 0, "and says that the budget is overdrawn")
	return nil
}

type slo struct {
	Total    uint64   `json:"total"`
	Bad      uint64   `json:"bad"`
	Attained *float64 `json:"attained"`
	Budget   struct {
		Remaining float64  `json:"remaining"`
		Consumed  *float64 `json:"consumed"`
	} `json:"budget"`
}

func percent(ratio *float64) string {
	if ratio == nil {
		return "none"
	}
	return strconv.FormatFloat(*ratio*100, 'f', 1, 64) + " %"
}

// checkBreaker waits until the API tells a state of a breaker.
func (w *world) checkBreaker(ctx context.Context, route, state string) error {
	var got string
	err := await(ctx, 5*time.Second, func() (bool, error) {
		var list struct {
			Items []struct{ Route, State string } `json:"items"`
		}
		if err := ask(ctx, w.admin, "breakers", &list); err != nil {
			return false, err
		}
		for _, b := range list.Items {
			if b.Route == route {
				got = b.State
			}
		}
		return got == state, nil
	})
	if err != nil && !errors.Is(err, errLate) {
		return err
	}
	w.check(got == state, "`seawall breakers` says %s is %s", route, got)
	return nil
}

// traffic reads payments from four callers until the returned function is
// called, which gives their answers.
func (w *world) traffic(ctx context.Context) func() (answers, error) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var all answers
	var errs error
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := w.client.call(context.WithoutCancel(ctx), http.MethodGet, paymentPath+"/42")
				mu.Lock()
				if all = append(all, a); err != nil {
					errs = errors.Join(errs, err)
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	return func() (answers, error) {
		cancel()
		wg.Wait()
		return all, errs
	}
}

// save edits the policy file and returns how long it took until all workers
// said that they run the new plan.
func (w *world) save(ctx context.Context, old, replacement string) (time.Duration, error) {
	before, err := w.plan(ctx)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(w.policy)
	if err != nil {
		return 0, err
	}
	edited, err := replaceOnce(string(text), old, replacement)
	if err != nil {
		return 0, err
	}
	// As editors do: write beside it, then rename.
	tmp := filepath.Join(filepath.Dir(w.policy), ".payments.yaml.tmp")
	if err := os.WriteFile(tmp, []byte(edited), 0o600); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := os.Rename(tmp, w.policy); err != nil {
		return 0, err
	}
	err = await(ctx, 15*time.Second, func() (bool, error) {
		plan, err := w.plan(ctx)
		return plan != before && plan != "", err
	})
	return time.Since(start), err
}

// plan is the hash that all workers of the one node say, "" while they differ.
func (w *world) plan(ctx context.Context) (string, error) {
	var list struct {
		Items []struct {
			PlanHash string `json:"planHash"`
		} `json:"items"`
	}
	if err := ask(ctx, w.admin, "nodes", &list); err != nil {
		return "", err
	}
	if len(list.Items) != 1 {
		return "", fmt.Errorf("the API has %d nodes, not 1", len(list.Items))
	}
	return list.Items[0].PlanHash, nil
}

var errLate = errors.New("it did not come to be in time")

// await polls until it holds.
func await(ctx context.Context, limit time.Duration, holds func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errLate
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
