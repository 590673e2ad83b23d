// Package api is the control plane's admin interface over HTTP: the REST
// endpoints of DESIGN section 5, the OpenAPI document that describes them, the
// pages for people, and the guards that stand before all of them (known Host,
// no foreign Origin on writes, bounded bodies and times, security headers).
//
// It imports no implementation. What it serves it asks of a Source, which
// package app builds from the fleet, the telemetry and the policies in force;
// what Source returns are plain values that the handler may keep.
//
//	srv, err := api.New(api.Config{Source: src, Ready: ready, Log: log, Now: time.Now})
//	err = srv.Serve(ctx, listener) // until ctx ends
package api
