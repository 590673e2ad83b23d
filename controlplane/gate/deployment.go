package gate

import (
	"context"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
)

// Deployment marks that a version of a service was released.
type Deployment struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Version string    `json:"version"`
	By      string    `json:"by"`
}

// Deployments keeps marks.
type Deployments interface {
	// PutDeployment keeps a mark, gives it an ID above all before, which it
	// returns, and appends the entry to the audit log.
	PutDeployment(ctx context.Context, d Deployment, entry audit.Entry) (id int64, err error)
	// ListDeployments is the newest marks with an ID below before (0 = all) of a
	// service ("" = all), newest first, at most limit.
	ListDeployments(ctx context.Context, service string, before int64, limit int) ([]Deployment, error)
}
