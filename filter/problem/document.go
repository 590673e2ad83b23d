package problem

import (
	"strings"

	"github.com/seawall-mesh/seawall/filter/jsonlite"
)

// Bounds of what Parse and FromResponse accept.
const (
	MaxDocument = 64 << 10 // bytes of a document
	MaxErrors   = 256      // entries of errors; what is beyond is passed over
)

// Document is a problem document: the members of RFC 9457, and the extensions
// that Seawall writes (retryable, retry_after) or that services commonly do. It
// marshals with encoding/json too.
type Document struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty"`
	Instance   string `json:"instance,omitempty"`    // the request id
	Retryable  *bool  `json:"retryable,omitempty"`   // nil: not said
	RetryAfter int    `json:"retry_after,omitempty"` // seconds, 0: not said

	Errors []Violation `json:"errors,omitempty"` // what a validation found wrong
	Limit  int         `json:"limit,omitempty"`  // of a rate limit: requests, 0: not said
	Window int         `json:"window,omitempty"` // of a rate limit: seconds, 0: not said
}

// Violation is one thing that a validation found wrong, as RFC 9457 section 3
// shows it.
type Violation struct {
	Detail  string `json:"detail"`            // also read from message
	Pointer string `json:"pointer,omitempty"` // a JSON Pointer, as "#/amount"; also read from field
}

// RateLimit is what a refusal for too many requests says. 0 is not said.
type RateLimit struct {
	Limit      int // requests
	Window     int // seconds in which so many are allowed
	RetryAfter int // seconds until another is
}

// New is a document of a registered type; base is the prefix of its URI
// ("" = DefaultBase). A slug that is not registered gives "about:blank".
func New(base, slug, detail, instance string) Document {
	t, ok := Lookup(slug)
	if !ok {
		return Document{Type: "about:blank", Title: "Proxy error", Status: 500, Detail: detail, Instance: instance}
	}
	if base == "" {
		base = DefaultBase
	}
	retryable := t.Retryable
	return Document{Type: base + slug, Title: t.Title, Status: t.Status, Detail: detail, Instance: instance, Retryable: &retryable}
}

// Slug is the last part of the document's type.
func (d *Document) Slug() string { return d.Type[strings.LastIndexByte(d.Type, '/')+1:] }

// IsRetryable reports whether the same request may succeed later: as the
// document says, else by its status (408, 429, 502, 503, 504).
func (d *Document) IsRetryable() bool {
	if d.Retryable != nil {
		return *d.Retryable
	}
	switch d.Status {
	case 408, 429, 502, 503, 504:
		return true
	}
	return false
}

// IsValidation reports whether the request was understood and found wrong: it
// lists what is, or its status is 422. The same request will fail again.
func (d *Document) IsValidation() bool { return len(d.Errors) > 0 || d.Status == 422 }

// RateLimit is the limit that the request met, and false for any other problem.
func (d *Document) RateLimit() (RateLimit, bool) {
	if d.Status != 429 && (d.Limit == 0 || d.Window == 0) {
		return RateLimit{}, false
	}
	return RateLimit{Limit: d.Limit, Window: d.Window, RetryAfter: d.RetryAfter}, true
}

// AppendJSON appends the document. Members that are not set are left out.
func AppendJSON(dst []byte, d *Document) []byte {
	o := jsonlite.Open(dst)
	o.String("type", d.Type)
	o.String("title", d.Title)
	o.Int("status", int64(d.Status))
	if d.Detail != "" {
		o.String("detail", d.Detail)
	}
	if d.Instance != "" {
		o.String("instance", d.Instance)
	}
	if d.Retryable != nil {
		o.Bool("retryable", *d.Retryable)
	}
	if d.RetryAfter != 0 {
		o.Int("retry_after", int64(d.RetryAfter))
	}
	if len(d.Errors) != 0 {
		o.Done(appendViolations(o.Key("errors"), d.Errors))
	}
	if d.Limit != 0 {
		o.Int("limit", int64(d.Limit))
	}
	if d.Window != 0 {
		o.Int("window", int64(d.Window))
	}
	return o.Close()
}

func appendViolations(dst []byte, list []Violation) []byte {
	for i, v := range list {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		o := jsonlite.Open(append(dst, sep))
		o.String("detail", v.Detail)
		if v.Pointer != "" {
			o.String("pointer", v.Pointer)
		}
		dst = o.Close()
	}
	return append(dst, ']')
}

// ParseError says why a document could not be parsed.
type ParseError struct{ Problem string }

// Error reads "problem document: …".
func (e *ParseError) Error() string { return "problem document: " + e.Problem }

// Parse reads any RFC 9457 document, whoever wrote it: members that are
// missing stay zero (an absent type is "about:blank"), and those of another
// JSON type than they should have are passed over, as the RFC asks. The error
// is a *ParseError: not a JSON object, or more than MaxDocument bytes.
func Parse(data []byte) (Document, error) {
	if len(data) > MaxDocument {
		return Document{}, &ParseError{"more than 64 KiB"}
	}
	d := Document{Type: "about:blank"}
	r := jsonlite.NewReader(data)
	for name, ok := r.Object(); ok; name, ok = r.Next() {
		kind := r.Kind()
		switch {
		case kind == jsonlite.Text:
			value := r.String()
			if dst := d.text(name); dst != nil {
				*dst = value
			}
		case kind == jsonlite.Number:
			n, whole := r.Number()
			if dst := d.number(name); dst != nil && whole && n >= 0 && n <= 1<<31-1 {
				*dst = int(n)
			}
		case kind == jsonlite.Truth && name == "retryable":
			b := r.Bool()
			d.Retryable = &b
		case kind == jsonlite.List && name == "errors":
			d.Errors = violations(r)
		default:
			r.Skip()
		}
	}
	r.End()
	if err := r.Err(); err != nil {
		return Document{}, &ParseError{err.Error()}
	}
	return d, nil
}

// violations reads the entries that are objects; the others are passed over.
func violations(r *jsonlite.Reader) []Violation {
	var list []Violation
	for more := r.Array(); more; more = r.More() {
		if r.Kind() != jsonlite.Map || len(list) == MaxErrors {
			r.Skip()
			continue
		}
		var v Violation
		for name, ok := r.Object(); ok; name, ok = r.Next() {
			if r.Kind() != jsonlite.Text {
				r.Skip()
				continue
			}
			switch value := r.String(); {
			case name == "detail", name == "message" && v.Detail == "":
				v.Detail = value
			case name == "pointer", name == "field" && v.Pointer == "":
				v.Pointer = value
			}
		}
		list = append(list, v)
	}
	return list
}

func (d *Document) text(name string) *string {
	switch name {
	case "type":
		return &d.Type
	case "title":
		return &d.Title
	case "detail":
		return &d.Detail
	case "instance":
		return &d.Instance
	}
	return nil
}

func (d *Document) number(name string) *int {
	switch name {
	case "status":
		return &d.Status
	case "retry_after":
		return &d.RetryAfter
	case "limit":
		return &d.Limit
	case "window":
		return &d.Window
	}
	return nil
}
