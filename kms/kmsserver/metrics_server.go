// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cretula/cretula/kms"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descEntries = describe("cretula_kms_cache_entries", "What is remembered: parsed policies, certificates of documents.", "cache")
	descLookups = describe("cretula_kms_cache_lookups_total", "Lookups in what is remembered.", "cache", "result")
	descPairs   = describe("cretula_kms_key_pairs_ready", "RSA key pairs that wait for GenerateDataKeyPair and CreateKey.", "spec")
)

// A serverCollector asks the service for its figures at each scrape.
type serverCollector struct{ server *kms.Server }

// Describe implements [prometheus.Collector].
func (c *serverCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEntries, descLookups, descPairs} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *serverCollector) Collect(out chan<- prometheus.Metric) {
	s := c.server.Stats()
	for _, name := range slices.Sorted(maps.Keys(s.Caches)) {
		cache := s.Caches[name]
		out <- prometheus.MustNewConstMetric(descEntries, prometheus.GaugeValue, float64(cache.Entries), name)
		out <- prometheus.MustNewConstMetric(descLookups, prometheus.CounterValue, float64(cache.Hits), name, "hit")
		out <- prometheus.MustNewConstMetric(descLookups, prometheus.CounterValue, float64(cache.Misses), name, "miss")
	}
	for _, spec := range slices.Sorted(maps.Keys(s.PairsReady)) {
		out <- prometheus.MustNewConstMetric(descPairs, prometheus.GaugeValue, float64(s.PairsReady[spec]), spec)
	}
}
