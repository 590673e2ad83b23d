package alert

import (
	"context"
	"time"
)

// Look is one of the looks of Run.
func (k *Keeper) Look(ctx context.Context) error { return k.look(ctx) }

// The bounds that tests go to.
const (
	QueueLimit  = queueLimit
	TriesLimit  = triesLimit
	ResolvedFor = resolvedFor
	ResendEvery = resendEvery
	ExpireAfter = expireAfter
)

// Resume is what Load does to stored alerts.
func Resume(stored []Alert, now time.Time) []Alert { return resume(stored, now) }
