// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parameters are those that a connection string may have. What is left out either
// is a password or would change what sessions do.
var parameters = []string{
	"host", "port", "user", "dbname", "passfile", "service", "servicefile", "connect_timeout", "application_name",
	"ssl", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcertmode", "sslnegotiation", "sslsni",
	"channel_binding", "require_auth", "krbsrvname", "krbspn", "min_protocol_version", "max_protocol_version",
	"target_session_attrs", "pool_max_conns",
}

// maxConnections is the size of the pool unless pool_max_conns is given.
const maxConnections = 16

// maxMessage bounds what the server may send at once: a row, and room for its
// other members.
const maxMessage = keystore.MaxContent + 1<<16

// parse reads the connection string and the environment, and adds what does not
// depend on them.
func parse(url string, l limits) (*pgxpool.Config, error) {
	// pgxpool has no way to say which parameters there may be.
	checked, err := pgconn.ParseConfigWithOptions(url, pgconn.ParseConfigOptions{ConnStringAllowedKeys: parameters})
	if err != nil {
		return nil, describeParse(err)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, describeParse(err)
	}
	if err := checkTransport(checked); err != nil {
		return nil, err
	}
	if checked.RuntimeParams["pool_max_conns"] == "" {
		config.MaxConns = maxConnections
	}
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = 15 * time.Second
	config.PingTimeout = l.connect
	connect := config.ConnConfig
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = l.connect
	}
	// A standby lags behind: a View there could rest on rows that have changed.
	connect.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	connect.MaxProtocolMessageBodyLen = maxMessage
	setRuntime(connect.RuntimeParams, l)
	return config, nil
}

// setRuntime sets what the sessions have from their start. It takes precedence
// over the settings of server, database and role.
func setRuntime(params map[string]string, l limits) {
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	if params["application_name"] == "" {
		params["application_name"] = "cretula"
	}
	delete(params, "options") // of PGOPTIONS
	params["search_path"] = "pg_catalog"
	params["client_encoding"] = "UTF8"
	params["statement_timeout"] = milliseconds(l.statement)
	params["lock_timeout"] = milliseconds(l.begin)
	params["idle_in_transaction_session_timeout"] = milliseconds(l.idle)
	// That one does not count while a batch is half sent; a machine that is gone
	// is noticed by these, after as long.
	params["tcp_keepalives_idle"] = strconv.Itoa(max(1, int(l.idle.Seconds())/2))
	params["tcp_keepalives_interval"] = strconv.Itoa(max(1, int(l.idle.Seconds())/4))
	params["tcp_keepalives_count"] = "2"
	params["tcp_user_timeout"] = milliseconds(l.idle)
}

// parseProblems are the texts that the driver has for what is wrong with a
// connection string. Whatever else it says may be a part of a password.
var parseProblems = []string{
	"failed to parse as URL", "failed to parse as keyword/value", "invalid port", "port numbers to",
	"failed to configure TLS", "failed to read service", "invalid connect_timeout", "invalid sslcertmode",
	"unknown target_session_attrs value", "unknown channel_binding value", "invalid require_auth",
	"min_protocol_version", "max_protocol_version", "pool_max_conns",
}

func describeParse(err error) error {
	text := err.Error()
	// The driver's text is: cannot parse `the string, perhaps redacted`: problem
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i:]
	}
	for _, key := range []string{"password", "sslpassword"} {
		if strings.Contains(text, fmt.Sprintf("key %q is not in", key)) {
			return fmt.Errorf("%w: it must not have a password; put that into the file that PGPASSFILE names, or into PGPASSWORD",
				ErrConnectionString)
		}
	}
	if strings.Contains(text, "ConnStringAllowedKeys") {
		return fmt.Errorf("%w: a parameter is none of %s", ErrConnectionString, strings.Join(parameters, ", "))
	}
	for _, problem := range parseProblems {
		if strings.Contains(text, problem) {
			if problem == "failed to configure TLS" && errors.Unwrap(err) != nil {
				problem += ": " + errors.Unwrap(err).Error() // names files, not their content
			}
			return fmt.Errorf("%w: %s", ErrConnectionString, problem)
		}
	}
	return fmt.Errorf("%w: it cannot be parsed", ErrConnectionString)
}

// checkTransport refuses to leave to the network whether there is TLS.
func checkTransport(config *pgconn.Config) error {
	type endpoint struct {
		host string
		port uint16
	}
	type kinds struct{ tls, plain bool }
	seen := map[endpoint]kinds{}
	note := func(host string, port uint16, encrypted bool) {
		k := seen[endpoint{host, port}]
		if encrypted {
			k.tls = true
		} else {
			k.plain = true
		}
		seen[endpoint{host, port}] = k
	}
	note(config.Host, config.Port, config.TLSConfig != nil)
	for _, f := range config.Fallbacks {
		note(f.Host, f.Port, f.TLSConfig != nil)
	}
	for e, k := range seen {
		if k.tls && k.plain && !isLocal(e.host) {
			return fmt.Errorf("%w: name an sslmode: verify-full, or disable where nobody else is on the way to host %s",
				ErrConnectionString, e.host)
		}
	}
	return nil
}

// isLocal reports whether a connection to host stays within the machine.
func isLocal(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 0); network == "unix" || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
