"""The O'Hara-Rudy human ventricular cell with the CiPA rapid potassium current, paced to its steady state.

O'Hara 2011, doi:10.1371/journal.pcbi.1002061 (all currents but IKr); Li 2017, doi:10.1161/CIRCEP.116.004628 (IKr as a
six-state Markov chain at 37 C); Dutta 2017, doi:10.3389/fphys.2017.00616 (scales of IKs, IK1, ICaL and INaL). Gates are
stepped by Rush & Larsen's exponential, everything else by Euler, with a short step during the upstroke.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CELLS = ("endo", "epi", "mid")
CHANNELS = ("IKr", "INaL", "ICaL", "IKs")
PERIOD_MS = 1000.0
LEVELS = (30, 50, 90)  # [%] of repolarisation that are timed
STATES = 46
_R, _T, _F = 8314.0, 310.0, 96485.0
_NAO, _CAO, _KO = 140.0, 1.8, 5.4  # [mmol/L] outside

# factors of the three cell types on: GNaL, Gto, PCa, GKr, GKs, GK1, Gncx, Pnak, GKb, Jup, calmodulin, Jrel
_KINDS = np.array([
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    [0.6, 4.0, 1.2, 1.3, 1.4, 1.2, 1.1, 0.9, 0.6, 1.3, 1.3, 1.0],
    [1.0, 4.0, 2.5, 0.8, 1.0, 1.3, 1.4, 0.7, 1.0, 1.0, 1.0, 1.7],
])  # fmt: skip
# IKr: A [1/ms], B [1/mV], q10, in the order C1>C2, C2>C1, C2>O, O>C2, IC1>IC2, IC2>IC1, IC2>IO, IO>IC2,
# C1>IC1, IC1>C1, C2>IC2, IC2>C2, O>IO, IO>O; measured at 20 C
_HERG = np.array([
    [0.0264, 4.631e-5, 4.843], [4.986e-6, -0.004226, 4.23], [0.005509, 7.771e-9, 4.22], [0.001416, -0.02877, 1.459],
    [0.0007868, 1.535e-8, 4.942], [5.455e-6, -0.1688, 4.156], [0.001214, 0.008516, 4.962], [1.854e-5, -0.04641, 3.769],
    [0.4492, 0.008595, 5.0], [0.01241, 0.1725, 5.568], [0.3181, 3.613e-8, 4.663], [0.3226, -0.0006575, 5.0],
    [0.149, 0.004668, 2.412], [0.008978, -0.02215, 5.682],
])  # fmt: skip


def resting_state() -> np.ndarray:
    """``(46,)``: V [mV], concentrations [mmol/L], gates, release, CaMK, IKr states; far from steady."""
    y = np.zeros(STATES)
    y[0], y[1:3], y[3:5], y[5:7], y[7:9] = -88.0, 7.0, 145.0, 1e-4, 1.2
    y[10:15], y[16:18], y[19:21], y[22:24] = 1.0, 1.0, 1.0, 1.0
    y[25:32], y[35] = 1.0, 1.0
    y[40] = 1.0  # C1
    return y


@njit(cache=True, fastmath=True, error_model="numpy")
def _step(y, dt, stimulus, kind, open_share):
    v, nai, nass, ki, kss, cai, cass, cansr, cajsr = y[0], y[1], y[2], y[3], y[4], y[5], y[6], y[7], y[8]
    exp = np.exp
    rtf = _R * _T / _F
    vfrt = v / rtf
    vffrt = v * _F / rtf
    ena, ek = rtf * np.log(_NAO / nai), rtf * np.log(_KO / ki)
    eks = rtf * np.log((_KO + 0.01833 * _NAO) / (ki + 0.01833 * nai))
    camkb = 0.05 * (1 - y[39]) / (1 + 0.0015 / cass)
    camka = camkb + y[39]
    phos = 1 / (1 + 0.15 / camka)
    y[39] += dt * (0.05 * camkb * camka - 0.00068 * y[39])

    # INa
    mss = 1 / (1 + exp(-(v + 39.57) / 9.871))
    tm = 1 / (6.765 * exp((v + 11.64) / 34.77) + 8.552 * exp(-(v + 77.42) / 5.955))
    hss, hssp = 1 / (1 + exp((v + 82.90) / 6.086)), 1 / (1 + exp((v + 89.1) / 6.086))
    thf = 1 / (1.432e-5 * exp(-(v + 1.196) / 6.285) + 6.149 * exp((v + 0.5096) / 20.27))
    ths = 1 / (0.009794 * exp(-(v + 17.95) / 28.05) + 0.3343 * exp((v + 5.730) / 56.66))
    tj = 2.038 + 1 / (0.02136 * exp(-(v + 100.6) / 8.281) + 0.3052 * exp((v + 0.9941) / 38.45))
    y[9] = mss - (mss - y[9]) * exp(-dt / tm)
    y[10] = hss - (hss - y[10]) * exp(-dt / thf)
    y[11] = hss - (hss - y[11]) * exp(-dt / ths)
    y[12] = hss - (hss - y[12]) * exp(-dt / tj)
    y[13] = hssp - (hssp - y[13]) * exp(-dt / (3 * ths))
    y[14] = hss - (hss - y[14]) * exp(-dt / (1.46 * tj))
    h, hp = 0.99 * y[10] + 0.01 * y[11], 0.99 * y[10] + 0.01 * y[13]
    i_na = 75 * (v - ena) * y[9] ** 3 * ((1 - phos) * h * y[12] + phos * hp * y[14])
    # INaL
    mlss = 1 / (1 + exp(-(v + 42.85) / 5.264))
    hlss, hlssp = 1 / (1 + exp((v + 87.61) / 7.488)), 1 / (1 + exp((v + 93.81) / 7.488))
    y[15] = mlss - (mlss - y[15]) * exp(-dt / tm)
    y[16] = hlss - (hlss - y[16]) * exp(-dt / 200)
    y[17] = hlssp - (hlssp - y[17]) * exp(-dt / 600)
    i_nal = 0.0075 * 2.661 * kind[0] * open_share[1] * (v - ena) * y[15] * ((1 - phos) * y[16] + phos * y[17])
    # Ito
    ass, assp = 1 / (1 + exp(-(v - 14.34) / 14.82)), 1 / (1 + exp(-(v - 24.34) / 14.82))
    ta = 1.0515 / (1 / (1.2089 * (1 + exp(-(v - 18.4099) / 29.3814))) + 3.5 / (1 + exp((v + 100) / 29.3814)))
    iss = 1 / (1 + exp((v + 43.94) / 5.711))
    delta = 1 - 0.95 / (1 + exp((v + 70) / 5)) if kind[8] < 1 else 1.0
    tif = delta * (4.562 + 1 / (0.3933 * exp(-(v + 100) / 100) + 0.08004 * exp((v + 50) / 16.59)))
    tis = delta * (23.62 + 1 / (0.001416 * exp(-(v + 96.52) / 59.05) + 1.780e-8 * exp((v + 114.1) / 8.079)))
    aif = 1 / (1 + exp((v - 213.6) / 151.2))
    slower = (1.354 + 1e-4 / (exp((v - 167.4) / 15.89) + exp(-(v - 12.23) / 0.2154))) * (
        1 - 0.5 / (1 + exp((v + 70) / 20))
    )
    y[18] = ass - (ass - y[18]) * exp(-dt / ta)
    y[19] = iss - (iss - y[19]) * exp(-dt / tif)
    y[20] = iss - (iss - y[20]) * exp(-dt / tis)
    y[21] = assp - (assp - y[21]) * exp(-dt / ta)
    y[22] = iss - (iss - y[22]) * exp(-dt / (slower * tif))
    y[23] = iss - (iss - y[23]) * exp(-dt / (slower * tis))
    inactive = aif * y[19] + (1 - aif) * y[20]
    inactive_p = aif * y[22] + (1 - aif) * y[23]
    i_to = 0.02 * kind[1] * (v - ek) * ((1 - phos) * y[18] * inactive + phos * y[21] * inactive_p)
    # ICaL
    dss, fss = 1 / (1 + exp(-(v + 3.940) / 4.230)), 1 / (1 + exp((v + 19.58) / 3.696))
    td = 0.6 + 1 / (exp(-0.05 * (v + 6)) + exp(0.09 * (v + 14)))
    tff = 7 + 1 / (0.0045 * exp(-(v + 20) / 10) + 0.0045 * exp((v + 20) / 10))
    tfs = 1000 + 1 / (3.5e-5 * exp(-(v + 5) / 4) + 3.5e-5 * exp((v + 5) / 6))
    tfcaf = 7 + 1 / (0.04 * exp(-(v - 4) / 7) + 0.04 * exp((v - 4) / 7))
    tfcas = 100 + 1 / (0.00012 * exp(-v / 3) + 0.00012 * exp(v / 7))
    afcaf = 0.3 + 0.6 / (1 + exp((v - 10) / 10))
    y[24] = dss - (dss - y[24]) * exp(-dt / td)
    y[25] = fss - (fss - y[25]) * exp(-dt / tff)
    y[26] = fss - (fss - y[26]) * exp(-dt / tfs)
    y[27] = fss - (fss - y[27]) * exp(-dt / tfcaf)
    y[28] = fss - (fss - y[28]) * exp(-dt / tfcas)
    y[29] = fss - (fss - y[29]) * exp(-dt / 75)
    y[30] = fss - (fss - y[30]) * exp(-dt / (2.5 * tff))
    y[31] = fss - (fss - y[31]) * exp(-dt / (2.5 * tfcaf))
    jca = y[29]
    anca = 1 / (1000 / jca + (1 + 0.002 / cass) ** 4)
    nss = anca * 1000 / jca
    y[32] = nss - (nss - y[32]) * exp(-dt * jca)
    f, fca = 0.6 * y[25] + 0.4 * y[26], afcaf * y[27] + (1 - afcaf) * y[28]
    fp, fcap = 0.6 * y[30] + 0.4 * y[26], afcaf * y[31] + (1 - afcaf) * y[28]
    e1, e2 = exp(vfrt), exp(2 * vfrt)
    s1 = vffrt / (e1 - 1) if abs(v) > 1e-6 else _F
    s2 = 4 * vffrt / (e2 - 1) if abs(v) > 1e-6 else 2 * _F
    pca = 0.0001007 * kind[2] * open_share[2]
    through = y[24] * (
        (1 - phos) * (f * (1 - y[32]) + jca * fca * y[32]) + 1.1 * phos * (fp * (1 - y[32]) + jca * fcap * y[32])
    )
    i_cal = pca * s2 * (cass * e2 - 0.341 * _CAO) * through
    i_cana = 0.00125 * pca * s1 * 0.75 * (nass * e1 - _NAO) * through
    i_cak = 3.574e-4 * pca * s1 * 0.75 * (kss * e1 - _KO) * through
    # IKr, implicit in the fast chain by small steps of the whole
    r = np.empty(14)
    for n in range(14):
        r[n] = _HERG[n, 0] * exp(_HERG[n, 1] * v) * _HERG[n, 2] ** 1.7
    c1, c2, o, ic1, ic2, io = y[40], y[41], y[42], y[43], y[44], y[45]
    for _ in range(2):  # Gauss-Seidel of an implicit Euler step
        c1 = (y[40] + dt * (r[1] * c2 + r[9] * ic1)) / (1 + dt * (r[0] + r[8]))
        c2 = (y[41] + dt * (r[0] * c1 + r[3] * o + r[11] * ic2)) / (1 + dt * (r[1] + r[2] + r[10]))
        o = (y[42] + dt * (r[2] * c2 + r[13] * io)) / (1 + dt * (r[3] + r[12]))
        ic1 = (y[43] + dt * (r[5] * ic2 + r[8] * c1)) / (1 + dt * (r[4] + r[9]))
        ic2 = (y[44] + dt * (r[4] * ic1 + r[7] * io + r[10] * c2)) / (1 + dt * (r[5] + r[6] + r[11]))
        io = (y[45] + dt * (r[6] * ic2 + r[12] * o)) / (1 + dt * (r[7] + r[13]))
    total = c1 + c2 + o + ic1 + ic2 + io
    y[40], y[41], y[42], y[43], y[44], y[45] = (
        c1 / total, c2 / total, o / total, ic1 / total, ic2 / total, io / total,
    )  # fmt: skip
    i_kr = 0.04658545454545456 * kind[3] * open_share[0] * np.sqrt(_KO / 5.4) * y[42] * (v - ek)
    # IKs
    xss = 1 / (1 + exp(-(v + 11.60) / 8.932))
    tx1 = 817.3 + 1 / (2.326e-4 * exp((v + 48.28) / 17.80) + 0.001292 * exp(-(v + 210) / 230))
    tx2 = 1 / (0.01 * exp((v - 50) / 20) + 0.0193 * exp(-(v + 66.54) / 31))
    y[33] = xss - (xss - y[33]) * exp(-dt / tx1)
    y[34] = xss - (xss - y[34]) * exp(-dt / tx2)
    i_ks = (
        0.0034 * 1.870 * kind[4] * open_share[3] * (1 + 0.6 / (1 + (3.8e-5 / cai) ** 1.4)) * y[33] * y[34] * (v - eks)
    )
    # IK1
    kss1 = 1 / (1 + exp(-(v + 2.5538 * _KO + 144.59) / (1.5692 * _KO + 3.8115)))
    tk1 = 122.2 / (exp(-(v + 127.2) / 20.36) + exp((v + 236.8) / 69.33))
    y[35] = kss1 - (kss1 - y[35]) * exp(-dt / tk1)
    i_k1 = 0.1908 * 1.698 * kind[5] * np.sqrt(_KO) * y[35] / (1 + exp((v + 105.8 - 2.6 * _KO) / 9.493)) * (v - ek)
    # exchangers, pump, background
    i_ncx = 0.8 * 0.0008 * kind[6] * _exchange(vfrt, nai, cai)
    ncx_ss = 0.2 * 0.0008 * kind[6] * _exchange(vfrt, nass, cass)
    i_nak = 30 * kind[7] * _pump(vfrt, nai, ki)
    i_kb = 0.003 * kind[8] / (1 + exp(-(v - 14.48) / 18.34)) * (v - ek)
    i_nab = 3.75e-10 * s1 * (nai * e1 - _NAO)
    i_cab = 2.5e-8 * s2 * (cai * e2 - 0.341 * _CAO)
    i_pca = 0.0005 * cai / (0.0005 + cai)
    total_i = (i_na + i_nal + i_to + i_cal + i_cana + i_cak + i_kr + i_ks + i_k1 + i_ncx + ncx_ss + i_nak + i_kb
               + i_nab + i_cab + i_pca + stimulus)  # fmt: skip

    # fluxes and concentrations
    vcell = 1000 * 3.14 * 0.0011**2 * 0.01
    acap = 2 * (2 * 3.14 * 0.0011**2 + 2 * 3.14 * 0.0011 * 0.01)
    vmyo, vnsr, vjsr, vss = 0.68 * vcell, 0.0552 * vcell, 0.0048 * vcell, 0.02 * vcell
    full = 1 / (1 + (1.5 / cajsr) ** 8) * kind[11]
    tau = max(4.75 / (1 + 0.0123 / cajsr), 0.001)
    release, release_p = 0.5 * 4.75 * -i_cal * full, 0.5 * 1.25 * 4.75 * -i_cal * full
    tau_p = max(1.25 * 4.75 / (1 + 0.0123 / cajsr), 0.001)
    y[36] = release - (release - y[36]) * exp(-dt / tau)
    y[37] = release_p - (release_p - y[37]) * exp(-dt / tau_p)
    j_rel = (1 - phos) * y[36] + phos * y[37]
    j_up = kind[9] * 0.004375 * cai * ((1 - phos) / (cai + 0.00092) + 2.75 * phos / (cai + 0.00092 - 0.00017))
    j_up -= 0.0039375 * cansr / 15
    j_tr = (cansr - cajsr) / 100
    d_na, d_k, d_ca = (nass - nai) / 2, (kss - ki) / 2, (cass - cai) / 0.2
    b_cai = 1 / (1 + 0.05 * kind[10] * 0.00238 / (0.00238 + cai) ** 2 + 0.07 * 0.0005 / (0.0005 + cai) ** 2)
    b_cass = 1 / (1 + 0.047 * 0.00087 / (0.00087 + cass) ** 2 + 1.124 * 0.0087 / (0.0087 + cass) ** 2)
    b_jsr = 1 / (1 + 10 * 0.8 / (0.8 + cajsr) ** 2)
    y[1] += dt * (-(i_na + i_nal + 3 * i_ncx + 3 * i_nak + i_nab) * acap / (_F * vmyo) + d_na * vss / vmyo)
    y[2] += dt * (-(i_cana + 3 * ncx_ss) * acap / (_F * vss) - d_na)
    y[3] += dt * (-(i_to + i_kr + i_ks + i_k1 + i_kb + stimulus - 2 * i_nak) * acap / (_F * vmyo) + d_k * vss / vmyo)
    y[4] += dt * (-i_cak * acap / (_F * vss) - d_k)
    y[5] += (
        dt * b_cai * (-(i_pca + i_cab - 2 * i_ncx) * acap / (2 * _F * vmyo) - j_up * vnsr / vmyo + d_ca * vss / vmyo)
    )
    y[6] += dt * b_cass * (-(i_cal - 2 * ncx_ss) * acap / (2 * _F * vss) + j_rel * vjsr / vss - d_ca)
    y[7] += dt * (j_up - j_tr * vjsr / vnsr)
    y[8] += dt * b_jsr * (j_tr - j_rel)
    y[0] = v - dt * total_i


@njit(cache=True, fastmath=True, error_model="numpy")
def _exchange_parts(vfrt, na, ca):
    """Sodium and calcium moved by the exchanger per turn."""
    hca, hna = np.exp(0.1670 * vfrt), np.exp(0.5224 * vfrt)
    h1 = 1 + na / 88.12 * (1 + hna)
    h2, h3 = na * hna / (88.12 * h1), 1 / h1
    h4 = 1 + na / 15 * (1 + na / 5)
    h5, h6 = na * na / (h4 * 15 * 5), 1 / h4
    h7 = 1 + _NAO / 88.12 * (1 + 1 / hna)
    h8, h9 = _NAO / (88.12 * hna * h7), 1 / h7
    h10 = 12.5 + 1 + _NAO / 15 * (1 + _NAO / 5)
    h11, h12 = _NAO * _NAO / (h10 * 15 * 5), 1 / h10
    k1, k2, k5 = h12 * _CAO * 1.5e6, 5e3, 5e3
    k3pp, k4pp = h8 * 5e3, h2 * 5e3
    k3, k4 = h9 * 6e4 + k3pp, h3 * 6e4 / hca + k4pp
    k6, k7, k8 = h6 * ca * 1.5e6, h5 * h2 * 6e4, h8 * h11 * 6e4
    x1 = k2 * k4 * (k7 + k6) + k5 * k7 * (k2 + k3)
    x2 = k1 * k7 * (k4 + k5) + k4 * k6 * (k1 + k8)
    x3 = k1 * k3 * (k7 + k6) + k8 * k6 * (k2 + k3)
    x4 = k2 * k8 * (k4 + k5) + k3 * k5 * (k1 + k8)
    x = x1 + x2 + x3 + x4
    e1, e2, e3, e4 = x1 / x, x2 / x, x3 / x, x4 / x
    return 3 * (e4 * k7 - e1 * k8) + e3 * k4pp - e2 * k3pp, e2 * k2 - e1 * k1


@njit(cache=True, fastmath=True, error_model="numpy")
def _exchange(vfrt, na, ca):
    na_moved, ca_moved = _exchange_parts(vfrt, na, ca)
    return (na_moved + 2 * ca_moved) / (1 + (150e-6 / ca) ** 2)


@njit(cache=True, fastmath=True, error_model="numpy")
def _pump(vfrt, nai, ki):
    knai, knao = 9.073 * np.exp(-0.1550 * vfrt / 3), 27.78 * np.exp(1.1550 * vfrt / 3)
    p = 4.2 / (1 + 1e-7 / 1.698e-7 + nai / 224 + ki / 292)
    inside = (1 + nai / knai) ** 3 + (1 + ki / 0.5) ** 2 - 1
    outside = (1 + _NAO / knao) ** 3 + (1 + _KO / 0.3582) ** 2 - 1
    atp = 9.8 / 1.698e-7
    a1, b1 = 949.5 * (nai / knai) ** 3 / inside, 182.4 * 0.05
    a2, b2 = 687.2, 39.4 * (_NAO / knao) ** 3 / outside
    a3, b3 = 1899 * (_KO / 0.3582) ** 2 / outside, 79300 * p * 1e-7 / (1 + atp)
    a4, b4 = 639 * atp / (1 + atp), 40 * (ki / 0.5) ** 2 / inside
    x1 = a4 * a1 * a2 + b2 * b4 * b3 + a2 * b4 * b3 + b3 * a1 * a2
    x2 = b2 * b1 * b4 + a1 * a2 * a3 + a3 * b1 * b4 + a2 * a3 * b4
    x3 = a2 * a3 * a4 + b3 * b2 * b1 + b2 * b1 * a4 + a3 * a4 * b1
    x4 = b4 * b3 * b2 + a3 * a4 * a1 + b2 * a4 * a1 + b3 * b2 * a1
    x = x1 + x2 + x3 + x4
    return 3 * (x1 * a3 - x2 * b3) / x + 2 * (x4 * b1 - x3 * a1) / x


@njit(cache=True)
def _beat(y, period, kind, open_share, dt):
    """One paced beat, in place; times [ms] at which V is 30, 50 and 90 % back from its peak, since the upstroke."""
    rest, peak, start, t = y[0], -100.0, 0.0, 0.0
    steepest = 0.0
    times = np.full(3, -1.0)
    while t < period - 1e-9:
        step = dt if t < 8 else (4 * dt if t < 40 else (8 * dt if y[0] > rest + 5 else 20 * dt))
        step = min(step, period - t)
        before = y[0]
        _step(y, step, -80.0 if t < 0.5 else 0.0, kind, open_share)
        t += step
        if t < 8 and (y[0] - before) / step > steepest:
            steepest, start = (y[0] - before) / step, t
        if y[0] > peak:
            peak = y[0]
            times[:] = -1.0
        elif t > 5:
            for n in range(3):
                level = peak - (0.3, 0.5, 0.9)[n] * (peak - rest)
                if y[0] > level:
                    times[n] = -1.0
                elif times[n] < 0:
                    times[n] = t - step * (level - y[0]) / (before - y[0] + 1e-12) - start
    return times


@njit(cache=True)
def _pace(y, beats, period, kind, open_share, dt):
    times = np.full(3, -1.0)
    for _ in range(beats):
        times = _beat(y, period, kind, open_share, dt)
    return times


def pace(
    cell: str, blocks: dict[str, float] | None = None, beats: int = 100, start: np.ndarray | None = None,
    period_ms: float = PERIOD_MS, dt: float = 0.01,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """APD30, APD50 and APD90 ``(3,)`` [ms] of the last of ``beats`` beats, and the state ``(46,)`` after it.

    ``blocks`` are the shares of CHANNELS that are closed, 0 to 1 (below 0 opens more). NaN where the cell does not
    repolarise within the period.
    """
    y = (resting_state() if start is None else start).copy()
    closed = {**dict.fromkeys(CHANNELS, 0.0), **(blocks or {})}
    open_share = np.array([1 - closed[c] for c in CHANNELS])
    times = _pace(y, beats, period_ms, _KINDS[CELLS.index(cell)], open_share, dt)
    return np.where(times < 0, np.nan, times), y
