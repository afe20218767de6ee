// SPDX-License-Identifier: Apache-2.0

// Package kmsconfig reads the configuration file of the key service: TOML 1.0
// (https://toml.io/en/v1.0.0), in which every name must be a known one, spelt as
// it is here. Nothing in the file is a secret: it names the files that hold
// them. Relative names of files are relative to the folder of the file.
//
// docs/kms-configuration.md is made of the comments of the fields here.
package kmsconfig

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/oidc"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/ledger"
)

// MaxSize is the greatest size of a configuration file, in bytes.
const MaxSize = 64 << 10

// A Config is a configuration that was checked: defaults are filled in and names
// of files are absolute.
type Config struct {
	// The folder of the service, private to its user (0700): the admin socket, the
	// audit log and, where [store] names no other, the store. Needed.
	DataDir Path `toml:"data_dir"`
	// The account of twelve digits that keys and principals belong to. A store is
	// made for one account; `cretula kms serve` refuses another one's. Needed.
	Account string `toml:"account"`
	// Makes or wants a store for documents of an emulator's root. It is marked
	// EMULATED in the log, in /healthz, in the metrics and in every audit event. A
	// store stays what it was made as.
	Emulated bool `toml:"emulated"`
	// The address, HOST:PORT, that AWS SDKs talk to. HOST is an IP address or
	// localhost; without [tls] it must be a loopback address. Default 127.0.0.1:8420.
	Listen string `toml:"listen"`
	// How long requests under way may take at the end of the service before they
	// are cut off. Default 10s.
	ShutdownTimeout Duration `toml:"shutdown_timeout"`

	// The certificate of the listeners. Without this table they speak plain HTTP.
	TLS *TLS `toml:"tls"`
	// Where the rows are.
	Store Store `toml:"store"`
	// The key that everything in the store is bound to and wrapped by. Its files must
	// not be in data_dir. Needed.
	RootKey rootkeys.Spec `toml:"root_key"`
	// The record of every request.
	Audit Audit `toml:"audit"`
	// How attestation documents are judged.
	Attestation Attestation `toml:"attestation"`
	// The OpenID Connect providers for AssumeRoleWithWebIdentity, each in a table of its
	// own. Default none.
	WebIdentity []WebIdentity `toml:"web_identity"`
	// How much a client may ask for.
	Limits Limits `toml:"limits"`
	// The listener for metrics and health. Without this table there is none.
	Metrics *Metrics `toml:"metrics"`
	// The listener for Go's profiler. Without this table there is none.
	Pprof *Pprof `toml:"pprof"`
	// The log on standard error.
	Log Log `toml:"log"`

	// File is the name of the file that this was read from.
	File string `toml:"-"`
}

// Parts returns what the configuration is about, to be opened. The root key of a
// file must lie outside of the data; that of a [Folder] is in it. The logger gets
// what goes wrong while nobody waits for it; nil: nobody does.
func (c *Config) Parts(logger *slog.Logger) datadir.Config {
	if c.File == "" {
		return datadir.Config{Dir: string(c.DataDir), Logger: logger}
	}
	return datadir.Config{
		Dir: string(c.DataDir), Store: cmp.Or(c.Store.URL, string(c.Store.File)), PasswordFile: string(c.Store.PasswordFile),
		AuditDir: string(c.Audit.Dir), RootKey: c.RootKey, RequireOutside: true, Logger: logger,
		Audit: audit.Options{
			Server: c.Audit.Server, HeadInterval: time.Duration(c.Audit.HeadInterval),
			Retention: audit.Retention{Age: time.Duration(c.Audit.RetainAge), Bytes: int64(c.Audit.RetainSize)},
		},
	}
}

// Meta is what a new store is made as.
func (c *Config) Meta() ledger.Meta { return ledger.Meta{Emulated: c.Emulated, Account: c.Account} }

// TLS says by which certificate the listeners are known. Both files are read
// again when they change and at SIGHUP; a pair that does not fit is refused, and
// the one before stays.
type TLS struct {
	// The certificate chain, PEM, leaf first. Needed.
	Certificate Path `toml:"certificate"`
	// The private key of the leaf, PEM, in a file that others cannot read and the
	// group cannot write. Needed.
	Key Path `toml:"key"`
}

// A Store is one file (bbolt) or a PostgreSQL database.
type Store struct {
	// The file of the store. Default kms.db in data_dir. Not with url.
	File Path `toml:"file"`
	// The connection string of a PostgreSQL database, postgres://USER@HOST/DATABASE,
	// without a password; sslmode=verify-full where HOST is another machine. Any
	// number of services may share the database.
	URL string `toml:"url"`
	// The password file for url, as .pgpass of PostgreSQL: a line
	// HOST:PORT:DATABASE:USER:PASSWORD, in a file that nobody else can read.
	PasswordFile Path `toml:"password_file"`
}

// Audit says where the audit log is and how much of it is kept.
type Audit struct {
	// The folder of the log, private to the service. Each service has its own.
	// Default audit in data_dir.
	Dir Path `toml:"dir"`
	// The name of this service in the signed heads of its log, where several share a
	// store: at most 64 letters, digits, dots, hyphens and underscores. With url of the
	// store it must be given. It counts for a new log.
	Server string `toml:"server"`
	// Removes segments of the log whose last record is older, by a record that says
	// so; at least 1h. Default: none is removed by its age.
	RetainAge Duration `toml:"retain_age"`
	// Removes the oldest segments where the log has more; at least 128MiB. Default:
	// none is removed by its size.
	RetainSize Size `toml:"retain_size"`
	// How often a signed head is written when there are new records, from 1s to 1h.
	// Default 1m.
	HeadInterval Duration `toml:"head_interval"`
}

// Attestation says which documents are judged good.
type Attestation struct {
	// Files with the root certificates, PEM, that documents must chain to. Default:
	// AWS's own. A store that is not emulated takes no others.
	Roots []Path `toml:"roots"`
	// Lets policies allow documents of enclaves in debug mode, whose images were not
	// measured.
	AllowDebug bool `toml:"allow_debug"`
}

// WebIdentity is an OpenID Connect provider.
type WebIdentity struct {
	// The issuer, letter for letter as its tokens name it: https://HOST/PATH. Behind
	// https:// it is the name of the provider in trust policies. Needed.
	URL string `toml:"url"`
	// What the claims aud and azp of its tokens may be. Needed.
	Audiences []string `toml:"audiences"`
	// What its tokens may be signed with: RS256, RS384, RS512, PS256, ES256, ES384,
	// EdDSA. Default RS256.
	Algorithms []string `toml:"algorithms"`
	// A file with its keys, a JWK set, in place of asking for them; only its owner can
	// write to it.
	JWKSFile Path `toml:"jwks_file"`
	// Where its keys are, if they are not where the issuer is.
	JWKSURL string `toml:"jwks_url"`
	// A file with the roots, PEM, of the certificates of the servers of url and
	// jwks_url. Default: those of the system.
	CAFile Path `toml:"ca_file"`
	// Lets url and jwks_url be http:// with a loopback address.
	InsecureLoopbackHTTP bool `toml:"insecure_loopback_http"`
}

// Issuer returns the provider as package oidc takes it.
func (w *WebIdentity) Issuer() oidc.Issuer {
	return oidc.Issuer{
		URL: w.URL, Audiences: w.Audiences, Algorithms: w.Algorithms, JWKSFile: string(w.JWKSFile), JWKSURL: w.JWKSURL,
		CAFile: string(w.CAFile), InsecureLoopbackHTTP: w.InsecureLoopbackHTTP,
	}
}

// Limits bounds what clients may ask for; what is beyond is answered with
// ThrottlingException, which AWS's SDKs try again later.
type Limits struct {
	// Turns off the limits of operations.
	NoOperationLimits bool `toml:"no_operation_limits"`
	// Requests per second of one principal by operation, beside the defaults, which
	// are near AWS's quotas: Decrypt = 500. Bursts of one second's worth, at least
	// five, pass.
	Operations map[string]float64 `toml:"operations"`
	// Signatures of certificates per second that are checked for one principal, and
	// for one source address, because a document's chain has certificates that were
	// not seen before: up to four per document. Default 40.
	UnknownCertificates float64 `toml:"unknown_certificates"`
	// Requests per second of one source address that fail to authenticate, or that
	// need not, as AssumeRoleWithWebIdentity. Default 20.
	Unauthenticated float64 `toml:"unauthenticated"`
}

// Metrics is the listener that Prometheus and load balancers ask: /metrics,
// /healthz and /readyz.
type Metrics struct {
	// The address, HOST:PORT; without tls it must be a loopback address. Default
	// 127.0.0.1:9420.
	Listen string `toml:"listen"`
	// Serves them by the certificate of [tls].
	TLS bool `toml:"tls"`
}

// Pprof is a listener for Go's profiler, which shows what is in memory to
// everyone on this machine.
type Pprof struct {
	// The address, HOST:PORT, always a loopback address. Needed.
	Listen string `toml:"listen"`
}

// Log is about the log on standard error.
type Log struct {
	// text or json. Default text.
	Format string `toml:"format"`
	// debug (one record per request), info (of requests, those that fail), warn or error. Default info.
	Level string `toml:"level"`
}

// defaults are what a file that says nothing means.
func defaults() *Config {
	return &Config{
		Listen:          "127.0.0.1:8420",
		ShutdownTimeout: Duration(10 * time.Second),
		Audit:           Audit{HeadInterval: Duration(time.Minute)},
		Limits:          Limits{UnknownCertificates: 40, Unauthenticated: 20},
		Log:             Log{Format: "text", Level: "info"},
	}
}
