// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/nitrocli"
)

// The commands for enclaves. Their arguments are read as nitro-cli reads them; then
// they fail with the code that it has on a machine that is no Nitro host.

const (
	noNitroHost = "cretula starts no enclave and knows of none: that takes an EC2 instance with enclaves enabled, and AWS's own nitro-cli"
	// maxRunConfig is more than any file for --config needs.
	maxRunConfig = 1 << 20
)

func needsNitroHost(code nitrocli.Code) error {
	return nitrocli.Failf(code, noNitroHost).
		WithHint("'cretula up --data-dir DIR --eif FILE' attests an image on this machine, with a key service beside it")
}

func nitroRunEnclave(_ context.Context, env *cli.Env, call *nitrocli.Call) error {
	if name, given := call.Get("config"); given {
		if err := checkRunConfig(env, name); err != nil {
			return err
		}
		return needsNitroHost(nitrocli.ProcessConnection)
	}
	for _, check := range []struct {
		option string
		valid  func(string) bool
	}{{"cpu-count", isUint32}, {"enclave-cid", isEnclaveCID}, {"memory", isMemory}, {"cpu-ids", isUint32}} {
		for _, value := range call.All(check.option) {
			if !check.valid(value) {
				return invalidArgument(check.option, value)
			}
		}
	}
	return needsNitroHost(nitrocli.ProcessConnection)
}

func invalidArgument(option, value string) error {
	return nitrocli.Failf(nitrocli.InvalidArgument, "`%s` cannot be %q", option, value)
}

func isUint32(value string) bool {
	_, err := strconv.ParseUint(value, 10, 32)
	return err == nil
}

// isEnclaveCID leaves out the context ids that mean something else (vsock(7)): the
// hypervisor's, which stands for a free one here, is allowed; local, host, parent
// and any are not.
func isEnclaveCID(value string) bool {
	cid, err := strconv.ParseUint(value, 10, 32)
	return err == nil && (cid == 0 || cid > 3) && cid != math.MaxUint32
}

// isMemory takes a number of MiB, or one with a unit.
func isMemory(value string) bool {
	number := strings.TrimRight(value, "MmGgTt")
	_, err := strconv.ParseUint(number, 10, 64)
	return err == nil && len(value)-len(number) <= 1
}

// checkRunConfig reads the file for --config, as far as it can be wrong.
func checkRunConfig(env *cli.Env, name string) error {
	data, err := env.ReadInput(name, maxRunConfig)
	if err != nil {
		return nitroFail(nitrocli.FileOperation, err)
	}
	var config struct {
		EIFPath    *string   `json:"eif_path"`
		MemoryMiB  *uint64   `json:"memory_mib"`
		CPUCount   *uint32   `json:"cpu_count"`
		CPUIDs     *[]uint32 `json:"cpu_ids"`
		EnclaveCID *uint64   `json:"enclave_cid"`
		DebugMode  bool      `json:"debug_mode"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nitroFail(nitrocli.Serialisation, inFile(name, err))
	}
	switch {
	case config.EIFPath == nil:
		return nitrocli.Failf(nitrocli.Serialisation, "%s: eif_path is missing", cli.Printable(name))
	case config.MemoryMiB == nil:
		return nitrocli.Failf(nitrocli.Serialisation, "%s: memory_mib is missing", cli.Printable(name))
	case config.CPUCount == nil && config.CPUIDs == nil:
		return nitrocli.Failf(nitrocli.MissingArgument, "%s has neither cpu_count nor cpu_ids", cli.Printable(name))
	case config.CPUCount != nil && config.CPUIDs != nil:
		return nitrocli.Failf(nitrocli.ConflictingArgument, "%s has both cpu_count and cpu_ids", cli.Printable(name))
	}
	return nil
}

func nitroTerminateEnclave(_ context.Context, _ *cli.Env, call *nitrocli.Call) error {
	switch {
	case call.Given("all"):
		return needsNitroHost(nitrocli.FileOperation)
	case call.Given("enclave-name"):
		return needsNitroHost(nitrocli.ReadFromDisk)
	}
	return needsNitroHost(nitrocli.Socket)
}

func nitroDescribeEnclaves(context.Context, *cli.Env, *nitrocli.Call) error {
	return needsNitroHost(nitrocli.ReadFromDisk)
}

func nitroConsole(_ context.Context, _ *cli.Env, call *nitrocli.Call) error {
	if call.Given("enclave-name") {
		return needsNitroHost(nitrocli.ReadFromDisk)
	}
	if timeout, given := call.Get("disconnect-timeout"); given {
		if _, err := strconv.ParseUint(timeout, 10, 64); err != nil {
			return invalidArgument("disconnect-timeout", timeout)
		}
	}
	return needsNitroHost(nitrocli.Socket)
}
