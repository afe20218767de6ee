// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/cretula/cretula/internal/cli"
)

// A progressLine shows people at a terminal how far something is, once it has
// taken two seconds.
type progressLine struct {
	env           *cli.Env
	started, last time.Time
	used          bool
}

func newProgressLine(env *cli.Env) *progressLine { return &progressLine{env: env, started: env.Now()} }

func (p *progressLine) show(stage string, done, total int64) {
	now := p.env.Now()
	if now.Sub(p.started) < 2*time.Second || now.Sub(p.last) < 100*time.Millisecond || !cli.IsTerminal(p.env.Stderr) {
		return
	}
	p.last, p.used = now, true
	if total > 0 {
		fmt.Fprintf(p.env.Stderr, "\r\x1b[K%s  %d %%  of %.1f MB", stage, int64(float64(done)/float64(total)*100), float64(total)/1e6)
	} else {
		fmt.Fprintf(p.env.Stderr, "\r\x1b[K%s  %.1f MB", stage, float64(done)/1e6)
	}
}

// clear takes the line away.
func (p *progressLine) clear() {
	if p.used {
		fmt.Fprint(p.env.Stderr, "\r\x1b[K")
	}
}
