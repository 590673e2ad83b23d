package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/override"
)

// reply is an answer that is more than a JSON body with status 200.
type reply struct {
	body any    // nil: 204
	made bool   // 201: something is there that was not
	tag  string // of the ETag, without quotes; "" = none
}

// readBody decodes the body of a write into to. Unknown members are refused: a
// misspelt one would do something else than the caller believes.
func readBody(r *http.Request, to any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return problemf(typeMediaType, "content-type must be application/json, not %q", shorten(r.Header.Get("Content-Type"), 100))
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return problemf(typeTooLarge, "the body is larger than %d bytes", large.Limit)
		}
		return problemf(typeInvalid, "the body broke off")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(to); err != nil {
		return problemf(typeInvalid, "the body is not the JSON object that is wanted here: %s", shorten(strings.TrimPrefix(err.Error(), "json: "), 200))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return problemf(typeInvalid, "the body is followed by more")
	}
	return nil
}

// precondition reads If-Match and If-None-Match. Weak tags match nothing (RFC
// 9110, strong comparison).
func precondition(r *http.Request) (override.Precondition, error) {
	var p override.Precondition
	if values := r.Header.Values("If-Match"); len(values) > 0 {
		list := strings.TrimSpace(strings.Join(values, ","))
		if list == "*" {
			p.Any = true
		} else {
			p.Tags = []string{}
			for item := range strings.SplitSeq(list, ",") {
				item = strings.TrimSpace(item)
				tag, strong := strings.CutPrefix(item, `"`)
				if strong && strings.HasSuffix(tag, `"`) {
					p.Tags = append(p.Tags, strings.TrimSuffix(tag, `"`))
				} else if !strings.HasPrefix(item, `W/"`) {
					return p, problemf(typeInvalid, "If-Match %q is not a list of quoted tags", shorten(list, 100))
				}
			}
		}
	}
	switch v := r.Header.Get("If-None-Match"); v {
	case "":
	case "*":
		p.None = true
	default:
		return p, problemf(typeInvalid, "If-None-Match takes * alone here, not %q", shorten(v, 100))
	}
	return p, nil
}

// answer sends what a handler returned.
func answer(w http.ResponseWriter, e endpoint, value any) error {
	made := false
	if r, ok := value.(reply); ok {
		if r.tag != "" {
			w.Header().Set("ETag", `"`+r.tag+`"`)
		}
		if r.body == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		value, made = r.body, r.made
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // the content type is JSON and nosniff is set
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encode %s: %w", e.path, err)
	}
	w.Header().Set("Content-Type", "application/json")
	if made {
		w.WriteHeader(http.StatusCreated)
	}
	return send(w, "application/json", body.Bytes())
}
