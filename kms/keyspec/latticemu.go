// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/sha3"
	"math/bits"
)

// The verification of ML-DSA signatures of a message representative μ (FIPS 204
// Algorithm 8 from line 8 on): the libraries sign a μ but verify messages only.
// All that is handled here is public.

const (
	latticeN = 256
	latticeQ = 8380417
	latticeD = 13
	// muSize is the length of μ in bytes.
	muSize = 64
)

// A parameterSet holds the parameters of FIPS 204 Table 1 that verification uses.
// gamma1 is 2 to the power of gamma1Bits; challenge is λ/4, the bytes of c̃.
type parameterSet struct {
	k, l, tau, beta, gamma1Bits, gamma2, omega, challenge int
}

// parameterSets are found by the length of the public key.
var parameterSets = map[int]parameterSet{
	1312: {4, 4, 39, 78, 17, (latticeQ - 1) / 88, 80, 32},
	1952: {6, 5, 49, 196, 19, (latticeQ - 1) / 32, 55, 48},
	2592: {8, 7, 60, 120, 19, (latticeQ - 1) / 32, 75, 64},
}

// A polynomial has coefficients in [0, q).
type polynomial [latticeN]uint32

// zetas are the powers of 1753 in the order of Algorithm 41.
var zetas = func() (z [latticeN]uint32) {
	power := uint32(1)
	for i := range z {
		z[bits.Reverse8(uint8(i))] = power
		power = mulQ(power, 1753)
	}
	return z
}()

func mulQ(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % latticeQ) }

func addQ(a, b uint32) uint32 { return (a + b) % latticeQ }

func subQ(a, b uint32) uint32 { return (a + latticeQ - b) % latticeQ }

// ntt is Algorithm 41.
func (w *polynomial) ntt() {
	m := 0
	for length := 128; length >= 1; length /= 2 {
		for start := 0; start < latticeN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := mulQ(zetas[m], w[j+length])
				w[j+length] = subQ(w[j], t)
				w[j] = addQ(w[j], t)
			}
		}
	}
}

// inverseNTT is Algorithm 42.
func (w *polynomial) inverseNTT() {
	m := latticeN
	for length := 1; length < latticeN; length *= 2 {
		for start := 0; start < latticeN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := w[j]
				w[j] = addQ(t, w[j+length])
				w[j+length] = mulQ(latticeQ-zetas[m], subQ(t, w[j+length]))
			}
		}
	}
	for j := range w {
		w[j] = mulQ(w[j], 8347681) // the inverse of 256
	}
}

// unpackBits calls put with 256 values of width bits from data.
func unpackBits(data []byte, width int, put func(i int, v uint32)) {
	var acc uint64
	have, next := 0, 0
	for i := range latticeN {
		for ; have < width; have += 8 {
			acc |= uint64(data[next]) << have
			next++
		}
		put(i, uint32(acc&(1<<width-1)))
		acc >>= width
		have -= width
	}
}

// rejNTT is an element of the matrix Â (Algorithms 30 and 32).
func rejNTT(rho []byte, r, s int) (a polynomial) {
	h := sha3.NewSHAKE128()
	h.Write(rho)
	h.Write([]byte{byte(s), byte(r)})
	var b [3]byte
	for i := 0; i < latticeN; {
		h.Read(b[:])
		if v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16; v < latticeQ {
			a[i] = v
			i++
		}
	}
	return a
}

// sampleInBall is Algorithm 29.
func (p parameterSet) sampleInBall(challenge []byte) (c polynomial) {
	h := sha3.NewSHAKE256()
	h.Write(challenge)
	var signs [8]byte
	h.Read(signs[:])
	var b [1]byte
	for i := latticeN - p.tau; i < latticeN; i++ {
		for {
			h.Read(b[:])
			if int(b[0]) <= i {
				break
			}
		}
		c[i] = c[b[0]]
		bit := i + p.tau - latticeN
		c[b[0]] = 1
		if signs[bit/8]>>(bit%8)&1 == 1 {
			c[b[0]] = latticeQ - 1
		}
	}
	return c
}

// unpackZ reads the vector z of a signature; ok is false if its norm is too large
// (Algorithm 8, line 13).
func (p parameterSet) unpackZ(data []byte) (z []polynomial, ok bool) {
	gamma1 := uint32(1) << p.gamma1Bits
	width := p.gamma1Bits + 1
	bound := gamma1 - uint32(p.beta)
	z, ok = make([]polynomial, p.l), true
	for i := range z {
		unpackBits(data[i*32*width:], width, func(j int, v uint32) {
			z[i][j] = subQ(gamma1, v)
			ok = ok && v > gamma1-bound && v < gamma1+bound
		})
	}
	return z, ok
}

// unpackHint is Algorithm 21; ok is false if the encoding is not the only one.
func (p parameterSet) unpackHint(data []byte) (h [][latticeN]bool, ok bool) {
	h = make([][latticeN]bool, p.k)
	index := 0
	for i := range h {
		end := int(data[p.omega+i])
		if end < index || end > p.omega {
			return nil, false
		}
		for first := index; index < end; index++ {
			if index > first && data[index-1] >= data[index] {
				return nil, false
			}
			h[i][data[index]] = true
		}
	}
	for ; index < p.omega; index++ {
		if data[index] != 0 {
			return nil, false
		}
	}
	return h, true
}

// useHint is Algorithm 40 with Decompose, Algorithm 36.
func (p parameterSet) useHint(hint bool, r uint32) uint32 {
	m := (latticeQ - 1) / (2 * p.gamma2)
	r0 := int(r) % (2 * p.gamma2)
	if r0 > p.gamma2 {
		r0 -= 2 * p.gamma2
	}
	r1 := (int(r) - r0) / (2 * p.gamma2)
	if int(r)-r0 == latticeQ-1 {
		r1, r0 = 0, r0-1
	}
	switch {
	case hint && r0 > 0:
		r1 = (r1 + 1) % m
	case hint:
		r1 = (r1 - 1 + m) % m
	}
	return uint32(r1)
}

// packW1 is w1Encode for one polynomial (Algorithms 16 and 28).
func (p parameterSet) packW1(w *polynomial, hint *[latticeN]bool) []byte {
	width := bits.Len(uint((latticeQ-1)/(2*p.gamma2) - 1))
	packed := make([]byte, 0, 32*width)
	var acc uint32
	have := 0
	for i, r := range w {
		acc |= p.useHint(hint[i], r) << have
		for have += width; have >= 8; have -= 8 {
			packed = append(packed, byte(acc))
			acc >>= 8
		}
	}
	return packed
}

// verifyMu reports whether signature is one of μ under the public key.
func verifyMu(public, mu, signature []byte) bool {
	p, known := parameterSets[len(public)]
	zSize := p.l * 32 * (p.gamma1Bits + 1)
	if !known || len(mu) != muSize || len(signature) != p.challenge+zSize+p.omega+p.k {
		return false
	}
	challenge := signature[:p.challenge]
	z, small := p.unpackZ(signature[p.challenge:])
	hint, unique := p.unpackHint(signature[p.challenge+zSize:])
	if !small || !unique {
		return false
	}
	rho, t1 := public[:32], public[32:]
	c := p.sampleInBall(challenge)
	c.ntt()
	for i := range z {
		z[i].ntt()
	}
	h := sha3.NewSHAKE256()
	h.Write(mu)
	for i := range p.k {
		w := p.approximate(rho, t1[320*i:], i, &c, z)
		h.Write(p.packW1(&w, &hint[i]))
	}
	computed := make([]byte, p.challenge)
	h.Read(computed)
	return bytes.Equal(challenge, computed)
}

// approximate returns row i of w'Approx (Algorithm 8, line 9); c and z are in the
// NTT domain.
func (p parameterSet) approximate(rho, t1 []byte, i int, c *polynomial, z []polynomial) (w polynomial) {
	var t polynomial
	unpackBits(t1, 23-latticeD, func(j int, v uint32) { t[j] = mulQ(v, 1<<latticeD) })
	t.ntt()
	for j := range w {
		w[j] = subQ(0, mulQ(c[j], t[j]))
	}
	for s := range z {
		a := rejNTT(rho, i, s)
		for j := range w {
			w[j] = addQ(w[j], mulQ(a[j], z[s][j]))
		}
	}
	w.inverseNTT()
	return w
}
