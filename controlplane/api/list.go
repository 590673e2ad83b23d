package api

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/gate"
)

// MaxLimit is the largest page of a list, and the default.
const MaxLimit = 1000

// The bounds of ?window=.
const (
	minWindow     = time.Minute
	maxWindow     = 90 * 24 * time.Hour
	defaultWindow = 5 * time.Minute
)

const maxCursorBytes = 2048

// List is one page of a list. Next is the cursor of the next page, "" on the
// last one.
type List[T any] struct {
	Items []T    `json:"items" doc:"This page's items."`
	Next  string `json:"next" doc:"The cursor of the next page; empty on the last one."`
}

// query is a request's checked query string.
type query struct {
	limit   int
	after   string // key of the last item of the page before
	window  time.Duration
	service string
	reason  string
	class   gate.Class
	unknown gate.Answer // what is answered where nothing is known
}

// parseQuery reads the parameters that an endpoint knows. An unknown or a
// doubled one is refused: ignoring it would answer another question than the
// one asked.
func parseQuery(values url.Values, known []param) (query, error) {
	q := query{limit: MaxLimit, window: defaultWindow, class: gate.Normal, unknown: gate.Unknown}
	for name, vs := range values {
		if !slices.ContainsFunc(known, func(p param) bool { return p.name == name }) {
			return query{}, problemf(typeBadQuery, "unknown query parameter %q; this endpoint knows %s", shorten(name, 50), paramNames(known))
		}
		if len(vs) != 1 {
			return query{}, problemf(typeBadQuery, "query parameter %q is given %d times", name, len(vs))
		}
		if err := q.set(name, vs[0]); err != nil {
			return query{}, err
		}
	}
	return q, nil
}

// parseRawQuery is url.ParseQuery with our kind of error.
func parseRawQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, problemf(typeBadQuery, "the query string cannot be read: %v", err)
	}
	return values, nil
}

func (q *query) set(name, value string) error {
	switch name {
	case "limit":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxLimit {
			return problemf(typeBadQuery, "limit %q is not a number from 1 to %d", shorten(value, 50), MaxLimit)
		}
		q.limit = n
	case "cursor":
		key, err := base64.RawURLEncoding.DecodeString(value)
		if err != nil || len(value) > maxCursorBytes {
			return problemf(typeBadQuery, "cursor %q did not come from this list; start again without one", shorten(value, 50))
		}
		q.after = string(key)
	case "window":
		w, err := ParseWindow(value)
		if err != nil {
			return err
		}
		q.window = w
	case "service":
		q.service = value
	case "reason":
		q.reason = value
	case "changeClass":
		if q.class = gate.Class(value); !slices.Contains(gate.Classes(), q.class) {
			return problemf(typeBadQuery, "changeClass %q is none of normal, canary, security, rollback, p0", shorten(value, 50))
		}
	case "onUnknown":
		if q.unknown = gate.Answer(value); q.unknown != gate.Allow && q.unknown != gate.Deny {
			return problemf(typeBadQuery, "onUnknown %q is neither allow nor deny", shorten(value, 50))
		}
	}
	return nil
}

// ParseWindow reads a ?window= such as 5m, 1h30m or 7d. A window is between a
// minute and 90 days, the time that minutes are kept.
func ParseWindow(s string) (time.Duration, error) {
	w, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 8)
		w = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || w < minWindow || w > maxWindow {
		return 0, problemf(typeBadQuery, "window %q is not a duration from 1m to 90d, such as 5m, 1h or 7d", shorten(s, 50))
	}
	return w, nil
}

// paginate sorts items by key and cuts the page that q asks for. The cursor
// holds the last key, not a position: a list that changes between two pages
// loses and repeats nothing that stayed.
func paginate[T any](q query, items []T, key func(T) string) List[T] {
	type keyed struct {
		key  string
		item T
	}
	all := make([]keyed, 0, len(items))
	for _, it := range items {
		if k := key(it); k > q.after {
			all = append(all, keyed{k, it})
		}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	page := List[T]{Items: make([]T, 0, min(q.limit, len(all)))}
	for i, k := range all {
		if i == q.limit {
			page.Next = cursor(all[i-1].key)
			break
		}
		page.Items = append(page.Items, k.item)
	}
	return page
}

// cursor is a key as ?cursor= takes it.
func cursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// sortKey joins the parts of a key. Parts hold no NUL: they are names, ids and
// addresses.
func sortKey(parts ...string) string { return strings.Join(parts, "\x00") }

// beforeID is the ID that a cursor of newestPage holds, 0 without one.
func (q query) beforeID() (int64, error) {
	if q.after == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.after, 10, 64)
	if err != nil || n < 1 {
		return 0, problemf(typeBadQuery, "the cursor did not come from this list; start again without one")
	}
	return n, nil
}

// newestPage is a page of a list that the store has sorted, newest first, with
// one item more than the page takes where there are more.
func newestPage[T any](q query, items []T, id func(T) int64) List[T] {
	page := List[T]{Items: items}
	if len(items) > q.limit {
		page.Items = items[:q.limit]
		page.Next = cursor(strconv.FormatInt(id(page.Items[q.limit-1]), 10))
	}
	if page.Items == nil {
		page.Items = []T{}
	}
	return page
}
