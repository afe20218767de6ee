// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/rootkeys"
)

// small is the least that a file must say; whole uses every table.
const small = `data_dir = "data"
account = "111122223333"
root_key = { kind = "file", file = "keys/root.key" }
`

const whole = `# a key service
data_dir = "/var/lib/cretula"
account = "111122223333"
emulated = true
listen = "[::]:8443"
shutdown_timeout = "1m30s"

[tls]
certificate = "tls/cert.pem"
key = "tls/key.pem"

[store]
url = "postgres://cretula@db.example.org/keys?sslmode=verify-full"
password_file = "pgpass"

[root_key]
kind = "pkcs11"
file = "root/root.key"
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "keys"
label = "cretula"
pin_file = "pin"

[audit]
dir = "/var/log/cretula"
server = "kms-1"
retain_age = "400d"
retain_size = "10GiB"
head_interval = "30s"

[attestation]
roots = ["emulator.pem"]
allow_debug = true

[[web_identity]]
url = "https://token.actions.githubusercontent.com"
audiences = ["sts.amazonaws.com"]

[[web_identity]]
url = "https://login.example.org/realms/a"
audiences = ["cretula", "other"]
algorithms = ["ES256"]
jwks_url = "https://keys.example.org/a"
ca_file = "ca.pem"

[limits]
unknown_certificates = 8
unauthenticated = 0.5
[limits.operations]
Decrypt = 250.5
CreateKey = 1

[metrics]
listen = "10.0.0.1:9420"
tls = true

[pprof]
listen = "localhost:6060"

[log]
format = "json"
level = "warn"
`

func TestParse(t *testing.T) {
	c, problems := Parse([]byte(whole), "/etc/cretula")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := &Config{
		DataDir: "/var/lib/cretula", Account: "111122223333", Emulated: true, Listen: "[::]:8443",
		ShutdownTimeout: Duration(90 * time.Second),
		TLS:             &TLS{Certificate: "/etc/cretula/tls/cert.pem", Key: "/etc/cretula/tls/key.pem"},
		Store:           Store{URL: "postgres://cretula@db.example.org/keys?sslmode=verify-full", PasswordFile: "/etc/cretula/pgpass"},
		RootKey: rootkeys.Spec{
			Kind: "pkcs11", File: "/etc/cretula/root/root.key", Module: "/usr/lib/softhsm/libsofthsm2.so",
			Token: "keys", Label: "cretula", PINFile: "/etc/cretula/pin",
		},
		Audit:       Audit{Dir: "/var/log/cretula", Server: "kms-1", RetainAge: Duration(400 * 24 * time.Hour), RetainSize: 10 << 30, HeadInterval: Duration(30 * time.Second)},
		Attestation: Attestation{Roots: []Path{"/etc/cretula/emulator.pem"}, AllowDebug: true},
		WebIdentity: []WebIdentity{
			{URL: "https://token.actions.githubusercontent.com", Audiences: []string{"sts.amazonaws.com"}},
			{URL: "https://login.example.org/realms/a", Audiences: []string{"cretula", "other"}, Algorithms: []string{"ES256"}, JWKSURL: "https://keys.example.org/a", CAFile: "/etc/cretula/ca.pem"},
		},
		Limits: Limits{
			Operations: map[string]float64{"Decrypt": 250.5, "CreateKey": 1}, UnknownCertificates: 8, Unauthenticated: 0.5,
		},
		Metrics: &Metrics{Listen: "10.0.0.1:9420", TLS: true},
		Pprof:   &Pprof{Listen: "localhost:6060"},
		Log:     Log{Format: "json", Level: "warn"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestDefaults(t *testing.T) {
	c, problems := Parse([]byte(small+"[metrics]\n"), "/etc/cretula")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := defaults()
	want.DataDir, want.Account = "/etc/cretula/data", "111122223333"
	want.RootKey = rootkeys.Spec{Kind: "file", File: "/etc/cretula/keys/root.key"}
	want.Store.File, want.Audit.Dir = "/etc/cretula/data/kms.db", "/etc/cretula/data/audit"
	want.Metrics = &Metrics{Listen: "127.0.0.1:9420"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// TestRefusals: each wrong file is refused at its line, with all that is wrong in
// it.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string // "LINE: part of the message"
	}{
		"nothing":               {"", []string{"1: data_dir is missing", "1: account is missing", "1: root_key is not one"}},
		"no TOML":               {small + "listen\n", []string{"4: "}},
		"no string end":         {small + "listen = \"a\n", []string{"4: "}},
		"not UTF-8":             {small + "listen = \"\xff\"\n", []string{"4: "}},
		"twice":                 {small + "account = \"111122223333\"\n", []string{"4: "}},
		"table twice":           {small + "[log]\n[log]\n", []string{"5: "}},
		"unknown":               {"\nlisten_on = 1\n" + small, []string{`2: there is no "listen_on" here; there are data_dir, account`}},
		"unknown in a table":    {small + "[tls]\ncert = \"x\"\n", []string{`5: there is no "cert" in tls; there are certificate, key`}},
		"unknown table":         {small + "\n[tsl]\nkey = 1\nother = 2\n", []string{`5: there is no "tsl" here`}},
		"unknown dotted":        {small + "tls.cert = \"x\"\n", []string{`4: there is no "cert" in tls`}},
		"unknown inline":        {small + "tls = { certificate = \"a\", key = \"b\", ca = \"c\" }\n", []string{`4: there is no "ca" in tls`}},
		"unknown deep":          {small + "[log.format.x]\n", []string{`4: there is no "x" in log.format`}},
		"unknown in root_key":   {strings.Replace(small, "kind", "sort", 1), []string{`3: there is no "sort" in root_key; there are kind, file`}},
		"another case":          {strings.Replace(small, "account", "Account", 1), []string{`2: there is no "Account" here`}},
		"several":               {small + "a = 1\nb = 2\nlisten = 3\n", []string{`4: there is no "a"`, `5: there is no "b"`, "6: listen must be a string"}},
		"number for a string":   {small + "listen = 8420\n", []string{"4: listen must be a string"}},
		"string for a bool":     {small + "emulated = \"true\"\n", []string{"4: emulated must be true or false"}},
		"string for a number":   {small + "[limits]\nunauthenticated = \"1\"\n", []string{"5: limits.unauthenticated must be a number"}},
		"string for a table":    {small + "tls = \"on\"\n", []string{"4: tls must be a table"}},
		"string for an array":   {small + "[attestation]\nroots = \"a\"\n", []string{"5: attestation.roots must be an array"}},
		"number in an array":    {small + "[attestation]\nroots = [\n \"a\", 2]\n", []string{"5: attestation.roots[1] must be a string"}},
		"array of tables":       {small + "[[log]]\nformat = \"json\"\n", []string{"4: "}},
		"table for a string":    {small + "[listen]\n", []string{"4: "}},
		"date":                  {small + "listen = 2026-01-01\n", []string{"4: listen must be a string"}},
		"duration of no unit":   {small + "shutdown_timeout = \"10\"\n", []string{"4: shutdown_timeout is no duration"}},
		"duration as a number":  {small + "shutdown_timeout = 10\n", []string{"4: shutdown_timeout must be a string"}},
		"negative duration":     {small + "shutdown_timeout = \"-1s\"\n", []string{"4: shutdown_timeout is no duration"}},
		"no duration":           {small + "shutdown_timeout = \"0s\"\n", []string{"4: shutdown_timeout must be more than 0s"}},
		"no data_dir":           {strings.Replace(small, "data_dir = \"data\"", "", 1), []string{"1: data_dir is missing"}},
		"empty data_dir":        {strings.Replace("\n"+small, "\"data\"", "\"\"", 1), []string{"2: data_dir is missing"}},
		"account":               {strings.Replace(small, "111122223333", "11112222333x", 1), []string{"2: account is not twelve digits"}},
		"no root key":           {strings.Replace(small, "root_key", "#", 1), []string{"1: root_key is not one"}},
		"kind of root key":      {strings.Replace(small, "\"file\"", "\"fiel\"", 1), []string{"3: root_key is not one"}},
		"member of another":     {strings.Replace(small, " }", ", label = \"x\" }", 1), []string{"3: root_key is not one"}},
		"root key with data":    {strings.Replace(small, "keys/", "data/", 1), []string{"3: root_key.file is in data_dir"}},
		"root key up and down":  {strings.Replace(small, "keys/", "keys/../data/", 1), []string{"3: root_key.file is in data_dir"}},
		"epoch with data":       {strings.Replace(small, " }", ", epoch_file = \"data/e\" }", 1), []string{"3: root_key.epoch_file is in data_dir"}},
		"no port":               {small + "listen = \"127.0.0.1\"\n", []string{"4: listen is not HOST:PORT"}},
		"port":                  {small + "listen = \"127.0.0.1:65536\"\n", []string{"4: listen has no port"}},
		"port with a zero":      {small + "listen = \"127.0.0.1:080\"\n", []string{"4: listen has no port"}},
		"name":                  {small + "listen = \"kms.example.org:1\"\n", []string{"4: listen is not HOST:PORT"}},
		"open without TLS":      {small + "listen = \"0.0.0.0:8420\"\n", []string{"4: listen is not a loopback address"}},
		"IPv6 without TLS":      {small + "listen = \"[2001:db8::1]:8420\"\n", []string{"4: listen is not a loopback address"}},
		"IPv6 without brackets": {small + "listen = \"::1:8420\"\n", []string{"4: listen is not HOST:PORT"}},
		"half of TLS":           {small + "[tls]\ncertificate = \"a\"\n", []string{"4: tls.key is missing"}},
		"nothing of TLS":        {small + "\n[tls]\n", []string{"5: tls.certificate is missing", "5: tls.key is missing"}},
		"open metrics":          {small + "[metrics]\nlisten = \"0.0.0.0:1\"\n", []string{"5: metrics.listen is not a loopback address"}},
		"open metrics with TLS": {small + "[tls]\ncertificate = \"a\"\nkey = \"b\"\n[metrics]\nlisten = \"0.0.0.0:1\"\n", []string{"8: metrics.listen is not a loopback address"}},
		"metrics without TLS":   {small + "[metrics]\ntls = true\n", []string{"5: metrics.tls needs the table [tls]"}},
		"open pprof":            {small + "[pprof]\nlisten = \"0.0.0.0:1\"\n", []string{"5: pprof.listen is not a loopback address"}},
		"pprof":                 {small + "[pprof]\n", []string{"4: pprof.listen is missing"}},
		"log":                   {small + "[log]\nformat = \"xml\"\nlevel = \"all\"\n", []string{"5: log.format must be one of text, json", "6: log.level must be one of"}},
		"two stores":            {small + "[store]\nfile = \"a\"\nurl = \"postgres://u@/d\"\n", []string{"6: store.url and file are both there"}},
		"another database":      {small + "[store]\nurl = \"mysql://u@h/d\"\n", []string{"5: store.url is not postgres"}},
		"password":              {small + "[store]\nurl = \"postgres://u:secret@h/d\"\n", []string{"5: store.url has a password"}},
		"password parameter":    {small + "[store]\nurl = \"postgres://u@h/d?password=secret\"\n", []string{"5: store.url has a password"}},
		"broken URL":            {small + "[store]\nurl = \"postgres://u:secret@h:x/d\"\n", []string{"5: store.url is not postgres"}},
		"password file alone":   {small + "[store]\npassword_file = \"a\"\n", []string{"5: store.password_file is for url only"}},
		"no name in a database": {small + "[store]\nurl = \"postgres://u@h/d\"\n", []string{"1: audit.server is missing"}},
		"two password files":    {small + "[store]\nurl = \"postgres://u@h/d?passfile=x\"\npassword_file = \"a\"\n[audit]\nserver = \"a\"\n", []string{"6: store.password_file and passfile"}},
		"roots":                 {small + "[attestation]\nroots = [\"a\"]\n", []string{"5: attestation.roots are for emulated"}},
		"no roots":              {"emulated = true\n" + small + "[attestation]\nroots = []\n", []string{"6: attestation.roots is empty"}},
		"no provider":           {small + "[[web_identity]]\n", []string{"4: web_identity[0] is no provider"}},
		"provider by http":      {small + "[[web_identity]]\nurl = \"http://a.example\"\naudiences = [\"a\"]\n", []string{"4: web_identity[0] is no provider"}},
		"algorithm":             {small + "[[web_identity]]\nurl = \"https://a.example\"\naudiences = [\"a\"]\nalgorithms = [\"none\"]\n", []string{"4: web_identity[0] is no provider"}},
		"same provider": {small + "[[web_identity]]\nurl = \"https://a.example\"\naudiences = [\"a\"]\n[[web_identity]]\nurl = \"https://A.example\"\naudiences = [\"a\"]\n",
			[]string{"7: web_identity[1] is no provider", "8: web_identity[1].url is there twice"}},
		"provider's members":  {small + "[[web_identity]]\nurl = \"https://a.example\"\naudience = \"a\"\n", []string{`6: there is no "audience" in web_identity[0]`}},
		"operation":           {small + "[limits.operations]\nDecrpyt = 1\n", []string{"5: limits.operations.Decrpyt is no operation"}},
		"rate":                {small + "[limits.operations]\nDecrypt = 0\n", []string{"5: limits.operations.Decrypt must be a rate"}},
		"negative rate":       {small + "[limits]\nunauthenticated = -1\n", []string{"5: limits.unauthenticated must be a rate"}},
		"infinite rate":       {small + "[limits]\nunauthenticated = inf\n", []string{"5: limits.unauthenticated must be a rate"}},
		"no number":           {small + "[limits]\nunknown_certificates = nan\n", []string{"5: limits.unknown_certificates must be a rate"}},
		"limits and none":     {small + "[limits]\nno_operation_limits = true\noperations.Decrypt = 1\n", []string{"5: limits.no_operation_limits and operations"}},
		"too large":           {strings.Repeat("#", MaxSize+1), []string{"1: the file is larger"}},
		"audit":               {small + "[audit]\nserver = \"a b\"\nretain_age = \"1m\"\nretain_size = \"1MiB\"\nhead_interval = \"2h\"\n", []string{"5: audit.server", "6: audit.retain_age", "7: audit.retain_size", "8: audit.head_interval"}},
		"size without a unit": {small + "[audit]\nretain_size = \"1000\"\n", []string{"5: audit.retain_size is no size"}},
		"size as a number":    {small + "[audit]\nretain_size = 1000\n", []string{"5: audit.retain_size must be a string"}},
	} {
		got, problems := Parse([]byte(c.text), "/etc/cretula")
		if got != nil || len(problems) != len(c.want) {
			t.Errorf("%s: %v, want %q", name, problems, c.want)
			continue
		}
		text := (&Error{"f", problems}).Error()
		for i, line := range strings.Split(text, "\n") {
			if !strings.HasPrefix(line, "f:"+c.want[i]) {
				t.Errorf("%s: %q, want %q", name, line, c.want[i])
			}
		}
		if strings.Contains(text, "secret") {
			t.Errorf("%s: a password is in the message: %s", name, text)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kms.toml")
	if _, err := Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(file, []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil || c.File != file || string(c.DataDir) != filepath.Join(dir, "data") {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := os.WriteFile(file, []byte(small+"x = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(file)
	refused, ok := errors.AsType[*Error](err)
	if !ok || len(refused.Problems) != 1 || !strings.HasPrefix(err.Error(), file+":4: ") {
		t.Errorf("%v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "512B": 512, "64KiB": 64 << 10, "16MiB": 16 << 20, "10GiB": 10 << 30, "7TiB": 7 << 40,
		"": -1, "1": -1, "B": -1, "1KB": -1, "-1B": -1, "1.5KiB": -1, "8388608TiB": -1, "9223372036854775808B": -1, "1 KiB": -1,
	} {
		var s Size
		err := s.UnmarshalText([]byte(text))
		if (err == nil) != (want >= 0) || err == nil && int64(s) != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("90d")); err != nil || time.Duration(d) != 90*24*time.Hour {
		t.Errorf("days: %v, %v", time.Duration(d), err)
	}
	for _, text := range []string{"d", "1.5d", "-1d", "65536d", "1h1d"} {
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a duration", text)
		}
	}
}

// FuzzParse: no text makes the decoder panic, and what it takes it takes again
// with the same meaning.
func FuzzParse(f *testing.F) {
	seeds := []string{
		small, whole, "[[a]]\n[[a.b]]\n", "a.b.c = {d = [1, {e = 2}]}", "\"\" = 1\n'a'.\"b\" = 2", "x = [[[[[[", "[limits.operations]\n\"\\u0000\" = 1",
		"root_key.pcrs = [0, 9223372036854775808]", "[attestation]\nroots = [ # x\n 'a', # y\n ]", "x = '''\n''' # \r\n", "[root_key]\npcrs = [1e9]",
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	if c, _ := Parse([]byte(whole), "/etc"); c == nil {
		f.Fatal("the seed is not taken")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Parse(data, "/etc/cretula")
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("%+v with %v", c, problems)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Message == "" {
				t.Fatalf("line %d of %d: %q", p.Line, lines, p.Message)
			}
		}
		again, _ := Parse(data, "/etc/cretula")
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v, then %+v", c, again)
		}
	})
}
