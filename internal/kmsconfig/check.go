// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"maps"
	"math"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
)

// A checker looks at what the types of the members do not say.
type checker struct {
	*walk
	config *Config
}

func (c *checker) run() {
	c.need("data_dir", c.config.DataDir != "")
	c.need("account", c.config.Account != "")
	if a := c.config.Account; a != "" && !isAccount(a) {
		c.at("account", "is not twelve digits")
	}
	c.listener("listen", c.config.Listen, c.config.TLS != nil)
	if c.config.ShutdownTimeout <= 0 {
		c.at("shutdown_timeout", "must be more than 0s")
	}
	if t := c.config.TLS; t != nil {
		c.need("tls.certificate", t.Certificate != "")
		c.need("tls.key", t.Key != "")
	}
	c.store()
	c.rootKey()
	c.audit()
	c.limits()
	c.webIdentity()
	c.others()
}

func (c *checker) webIdentity() {
	seen := map[string]bool{}
	for i := range c.config.WebIdentity {
		w := &c.config.WebIdentity[i]
		member := "web_identity[" + strconv.Itoa(i) + "]"
		issuer := w.Issuer()
		if err := issuer.Check(); err != nil {
			c.at(member, "is no provider: "+err.Error())
		}
		name := strings.ToLower(w.URL)
		if seen[name] {
			c.at(member+".url", "is there twice, case apart")
		}
		seen[name] = true
	}
}

// rootKey wants the root key somewhere else than what it protects: who copies the
// data folder must not have it.
func (c *checker) rootKey() {
	if err := c.config.RootKey.Check(); err != nil {
		c.at("root_key", "is not one: "+err.Error())
	}
	files := c.config.rootKeyFiles()
	for _, member := range []string{"file", "epoch_file", "passphrase_file", "pin_file"} {
		path := *files[member]
		if path != "" && c.config.DataDir != "" && Inside(path, string(c.config.DataDir)) {
			c.at("root_key."+member, "is in data_dir: it must be outside of what it protects")
		}
	}
}

func (c *checker) others() {
	if m := c.config.Metrics; m != nil {
		if m.TLS && c.config.TLS == nil {
			c.at("metrics.tls", "needs the table [tls]")
		}
		c.listener("metrics.listen", m.Listen, m.TLS)
	}
	if p := c.config.Pprof; p != nil {
		c.need("pprof.listen", p.Listen != "")
		if p.Listen != "" {
			c.listener("pprof.listen", p.Listen, false)
		}
	}
	c.oneOf("log.format", c.config.Log.Format, "text", "json")
	c.oneOf("log.level", c.config.Log.Level, "debug", "info", "warn", "error")
	if len(c.config.Attestation.Roots) > 0 && !c.config.Emulated {
		c.at("attestation.roots", "are for emulated = true only: else the roots of AWS are trusted, and no others")
	}
	if c.config.Attestation.Roots != nil && len(c.config.Attestation.Roots) == 0 {
		c.at("attestation.roots", "is empty: leave it out for the roots of AWS")
	}
}

func (c *checker) store() {
	s := c.config.Store
	if s.URL == "" {
		if s.PasswordFile != "" {
			c.at("store.password_file", "is for url only")
		}
		return
	}
	if s.File != "" {
		c.at("store.url", "and file are both there")
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql":
		c.at("store.url", "is not postgres://USER@HOST/DATABASE") // not quoted: it may hold a password
		return
	case u.User != nil && hasPassword(u) || u.Query().Has("password") || u.Query().Has("sslpassword"):
		c.at("store.url", "has a password: put it into password_file")
	case c.config.Audit.Server == "" && s.File == "":
		c.at("audit.server", "is missing: of several servers with one database each needs its name, by which its log is told from the others'")
	}
	if s.PasswordFile != "" && u.Query().Has("passfile") {
		c.at("store.password_file", "and passfile in url are both there")
	}
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

// minRetained is the least size of a log: two segments of the default size.
const minRetained = 128 << 20

func (c *checker) audit() {
	a := c.config.Audit
	if !serverName.MatchString(a.Server) {
		c.at("audit.server", "must be at most 64 letters, digits, dots, hyphens and underscores")
	}
	if a.RetainAge != 0 && time.Duration(a.RetainAge) < time.Hour {
		c.at("audit.retain_age", "must be at least 1h")
	}
	if a.RetainSize != 0 && a.RetainSize < minRetained {
		c.at("audit.retain_size", "must be at least 128MiB")
	}
	if d := time.Duration(a.HeadInterval); d < time.Second || d > time.Hour {
		c.at("audit.head_interval", "must be from 1s to 1h")
	}
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// maxRate bounds rates: more than any server does.
const maxRate = 1e6

// stsOperations are those of AWS STS that principals call.
var stsOperations = []string{"AssumeRole", "GetCallerIdentity", "GetSessionToken"}

func (c *checker) limits() {
	l := c.config.Limits
	for _, name := range slices.Sorted(maps.Keys(l.Operations)) {
		member := "limits.operations." + name
		if kmsapi.Lookup(name) == nil && !slices.Contains(stsOperations, name) {
			c.at(member, "is no operation of AWS KMS, or of AWS STS for those who have an access key")
		}
		c.rate(member, l.Operations[name])
	}
	if l.NoOperationLimits && len(l.Operations) > 0 {
		c.at("limits.no_operation_limits", "and operations are both there")
	}
	c.rate("limits.unknown_certificates", l.UnknownCertificates)
	c.rate("limits.unauthenticated", l.Unauthenticated)
}

func (c *checker) rate(member string, rate float64) {
	if !(rate > 0 && rate <= maxRate) || math.IsNaN(rate) {
		c.at(member, "must be a rate of more than 0 and at most 1000000 per second")
	}
}

// listener checks an address; without TLS it must be of this machine.
func (c *checker) listener(member, address string, tls bool) {
	host, port, ok := cutAddress(address)
	if !ok {
		c.at(member, "is not HOST:PORT with an IP address or localhost")
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		c.at(member, "has no port from 0 to 65535")
	}
	if !tls && !IsLoopback(host) {
		c.at(member, "is not a loopback address, which it must be without TLS")
	}
}

// cutAddress splits HOST:PORT, with an IPv6 address in brackets.
func cutAddress(address string) (host, port string, ok bool) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = address[:i], address[i+1:]
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if host, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return "", "", false
		}
	}
	if strings.EqualFold(host, "localhost") {
		return "127.0.0.1", port, !bracketed
	}
	ip, err := netip.ParseAddr(host)
	return host, port, err == nil && ip.Is6() == bracketed
}

// IsLoopback tells whether a host, an IP address, is this machine's own.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *checker) need(member string, there bool) {
	if !there {
		parent := ""
		if i := strings.LastIndexByte(member, '.'); i >= 0 {
			parent = member[:i]
		}
		line := c.lines[parent]
		if given, ok := c.lines[member]; ok { // as an empty string
			line = given
		}
		c.report(line, "%s is missing", member)
	}
}

func (c *checker) oneOf(member, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.at(member, "must be one of "+strings.Join(known, ", "))
	}
}

// at reports what is wrong with a member, or with the table that it is not in.
func (c *checker) at(member, message string) {
	line, ok := c.lines[member]
	for parent := member; !ok; line, ok = c.lines[parent] {
		parent = parent[:max(strings.LastIndexByte(parent, '.'), 0)]
	}
	c.report(line, "%s %s", member, message)
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// Inside tells whether a file lies in a folder; both are absolute.
func Inside(file, dir string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
