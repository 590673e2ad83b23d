package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

//go:embed assets
var assets embed.FS

// templates are parsed once; each page is "layout" with its own "main".
type templates struct{ overview, problems, problem *template.Template }

func parseTemplates() (templates, error) {
	parse := func(page string) (*template.Template, error) {
		t, err := template.ParseFS(assets, "assets/layout.html", "assets/"+page)
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", page, err)
		}
		return t, nil
	}
	var t templates
	var err error
	if t.overview, err = parse("overview.html"); err != nil {
		return t, err
	}
	if t.problems, err = parse("problems.html"); err != nil {
		return t, err
	}
	t.problem, err = parse("problem.html")
	return t, err
}

// page is what the layout needs, beside the page's own data.
type page struct {
	Title   string
	Version string
	Refresh int // seconds; 0: only by hand
	Data    any
}

// pages adds what people read: the overview, the problem types, the style.
func (s *Server) pages(mux *http.ServeMux) error {
	t, err := parseTemplates()
	if err != nil {
		return err
	}
	css, err := assets.ReadFile("assets/seawall.css")
	if err != nil {
		return fmt.Errorf("style: %w", err)
	}
	mux.Handle("/assets/seawall.css", s.reads(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=300")
		return send(w, "text/css; charset=utf-8", css)
	}))
	mux.Handle("/{$}", s.reads(func(w http.ResponseWriter, r *http.Request) error {
		q, refresh, err := overviewQuery(r)
		if err != nil {
			return err
		}
		return s.render(w, t.overview, page{Title: "Overview", Refresh: refresh, Data: s.overview(r.Context(), q, refresh)})
	}))
	types := listedProblemTypes(s.cfg.ProblemTypeBase)
	mux.Handle("/problems", s.reads(func(w http.ResponseWriter, _ *http.Request) error {
		return s.render(w, t.problems, page{Title: "Problem types", Data: types})
	}))
	mux.Handle("/problems/{slug}", s.reads(func(w http.ResponseWriter, r *http.Request) error {
		slug := r.PathValue("slug")
		i := slices.IndexFunc(types, func(p ProblemType) bool { return p.Slug == slug })
		if i < 0 {
			return problemf(typeNotFound, "there is no problem type %q; /problems lists all", shorten(slug, 100))
		}
		return s.render(w, t.problem, page{Title: types[i].Title, Data: types[i]})
	}))
	return nil
}

func (s *Server) render(w http.ResponseWriter, t *template.Template, p page) error {
	p.Version = s.cfg.Source.Status().Version
	var body bytes.Buffer
	if err := t.ExecuteTemplate(&body, "layout", p); err != nil {
		return fmt.Errorf("page %s: %w", strings.ToLower(p.Title), err)
	}
	return send(w, "text/html; charset=utf-8", body.Bytes())
}
