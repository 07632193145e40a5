"""A ``Drug`` and how it is read from the formulary: routes and limits, kinetics, channels, and laws of effect.

Nothing here acts; ``kinetics``, ``exposure`` and ``effects`` do. Every number comes from
``formulary.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ecg_gym.pharmacology.constants import Block
from ecg_gym.pharmacology.kinetics import Compartments

CHANNELS = ("IKr", "ICaL", "INaL", "INa", "IKs")
PATHWAYS = ("cyp3a", "cyp2d6", "renal", "other")
ELECTROLYTES = ("potassium", "magnesium", "calcium")  # [mmol/L]
ROUTES = ("PO", "IV", "SC", "EXT")  # by mouth, into a vein, under the skin, from outside (a procedure)
RATES = ("/min", "/h")  # a unit that ends so is a rate
LAW_UNITS = {  # what a law may act on, and the unit of its Emax
    "sinus_rate": "1",
    "av_rate": "1",
    "pr_ms": "ms",
    "av_block": "1",
    "conduction": "1",
    "atrial_conduction": "1",
    "jtpeak_ms": "ms",
    "tpeak_tend_ms": "ms",
    "t_amplitude": "1",
    "ectopy": "1",
    "reentry_termination_per_hour": "1/h",
    "af_conversion_per_hour": "1/h",
    "vt_termination_per_hour": "1/h",
    "escape_rate": "1",
    "pathway_rate": "1",
    "torsade_termination_per_hour": "1/h",
    "potassium": "mmol/L",
    "magnesium": "mmol/L",
    "calcium": "mmol/L",
    "contractility": "1",
    "resistance": "1",
    "pacing_bpm": "1/min",
    "shock": "1",
}


@dataclass(frozen=True)
class Route:
    """How a drug is given by one route, and how much of it may be."""

    name: str  # one of ROUTES
    unit: str  # the unit in which doses are written, such as "mg" or "mcg/kg/min"
    usual: tuple[float, ...]  # the menu's doses [unit]
    max_single: float  # [unit]
    max_24h: float  # [unit]; for rates, [unit x h]
    max_1h: float  # the same within an hour
    min_interval_hours: float  # between the starts of two doses
    duration_hours: float  # of one administration; 0 is a tablet or a push
    source: str
    infusion: Route | None = None  # limits of running it in, where they are others than those of a bolus

    def form(self, unit: str) -> Route:
        """What holds for a dose in this unit: the infusion's own row for a rate, where there is one."""
        return self.infusion if self.infusion is not None and unit.endswith(RATES) else self

    @property
    def forms(self) -> tuple[Route, ...]:
        """This, and its infusion if it has one."""
        return (self,) if self.infusion is None else (self, self.infusion)


@dataclass(frozen=True)
class ChannelBlock:
    """How a drug blocks one channel: B = c^h / (c^h + (IC50 / potency)^h), c the free concentration."""

    ic50_nm: float  # in vitro [nM]
    hill: float
    potency: float = 1.0  # in vivo over in vitro
    use_dependence: float = 0.0  # exponent of (heart rate / 60) on the potency


@dataclass(frozen=True)
class Law:
    """A saturable effect on one target: E = emax c^h / (c^h + ec50^h)."""

    target: str  # a key of LAW_UNITS
    emax: float  # in the unit of the target; factors change by this share
    ec50: float  # [ng/mL]
    hill: float = 1.0
    site: str = "effect"  # or "plasma", "metabolite"


@dataclass(frozen=True)
class Metabolite:
    """An active metabolite: its binding and its channels; its kinetics live with the parent's."""

    name: str
    molar_mass: float  # [g/mol]
    unbound: float
    channels: dict[str, ChannelBlock] = field(default_factory=dict)
    poor_metaboliser: float = 1.0  # factor on its formation in CYP2D6 poor metabolisers


@dataclass(frozen=True)
class Spread:
    """Between-subject standard deviations of the logarithm of kinetic parameters."""

    clearance: float
    volume: float
    absorption: float
    fraction: float


@dataclass(frozen=True)
class Drug:
    """One treatment of the formulary."""

    name: str
    kind: str  # class, in words
    molar_mass: float  # [g/mol]
    unbound: float  # free fraction in plasma
    milligrams: dict[str, float]  # mg in one unit of the drug's own units ("mmol", "U", "vial")
    routes: dict[str, Route]
    compartments: dict[str, Compartments]  # per route, for 70 kg and a creatinine clearance of 100 mL/min
    pathway: str  # main route of hepatic elimination
    renal: float  # share of clearance that goes with creatinine clearance
    poor_metaboliser: float  # factor on clearance in CYP2D6 poor metabolisers
    spread: Spread
    channels: dict[str, ChannelBlock]
    laws: tuple[Law, ...]
    metabolite: Metabolite | None = None
    neutralises: tuple[str, float] | None = None  # (drug, mg of it bound by one mg)
    supplies: str | None = None  # the electrolyte that the drug's own molecules are
    procedure: bool = False  # something that is done, no drug
    stops_medication: bool = False  # standing orders, running infusions and other medication end with it

    def __hash__(self) -> int:
        return hash(self.name)


def parse_drug(name: str, data: Any) -> Drug:
    """The ``Drug`` of one formulary entry; raises ValueError, naming the place, for anything that does not fit."""
    block = Block.of(name, data)
    block.expect(
        {"class", "kind", "molar_mass", "unbound", "units", "routes", "kinetics", "channels", "laws"}
        | {"metabolite", "neutralises", "supplies", "stops"}
    )
    routes = {route: _route(route, block.block("routes").block(route)) for route in block.block("routes").entries()}
    if not routes:
        raise ValueError(f"{name} has no routes; expected at least one of PO, IV, SC, EXT; add routes: to its entry")
    kinetics = block.block("kinetics")
    molar_mass = block.number("molar_mass", "g/mol", 0.0)
    metabolite = _metabolite(block.block("metabolite")) if "metabolite" in block else None
    binds = block.block("neutralises")
    return Drug(
        name=name,
        kind=str(block.data.get("class", "")),
        molar_mass=molar_mass,
        unbound=block.number("unbound", "1", 1.0),
        milligrams={u: block.block("units").number(u, f"mg/{u}") for u in block.block("units").entries()},
        routes=routes,
        compartments={
            route: _compartments(kinetics, kinetics.block(route), block.block("metabolite")) for route in routes
        },
        pathway=_one_of(kinetics.data.get("pathway", "other"), PATHWAYS, f"{name}.kinetics.pathway"),
        renal=kinetics.number("renal", "1", 0.0),
        poor_metaboliser=kinetics.number("poor_metaboliser", "1", 1.0),
        spread=Spread(
            clearance=kinetics.number("clearance_sd", "ln", 0.30),
            volume=kinetics.number("volume_sd", "ln", 0.20),
            absorption=kinetics.number("absorption_sd", "ln", 0.40),
            fraction=kinetics.number("fraction_sd", "ln", 0.0),
        ),
        channels=_channels(block.block("channels")),
        laws=tuple(_law(block, i, law) for i, law in enumerate(_list_of(block, "laws"))),
        metabolite=metabolite,
        neutralises=(str(binds.data["drug"]), binds.number("per_mg", "mg/mg")) if "neutralises" in block else None,
        supplies=_one_of(block.data["supplies"], ELECTROLYTES, f"{name}.supplies") if "supplies" in block else None,
        procedure="kind" in block and bool(_one_of(block.data["kind"], ("procedure",), f"{name}.kind")),
        stops_medication="stops" in block and bool(_one_of(block.data["stops"], ("medication",), f"{name}.stops")),
    )


def _route(name: str, block: Block) -> Route:
    block.expect({"unit", "usual", "max_single", "max_1h", "max_24h", "min_interval", "duration", "infusion"})
    name = _one_of(name, ROUTES, block.path)
    unit = str(block.data.get("unit"))
    total = f"{unit} h" if unit.endswith(RATES) else unit
    return Route(
        name=name,
        unit=unit,
        usual=_amounts(block),
        max_single=block.number("max_single", unit),
        max_24h=block.number("max_24h", total),
        max_1h=block.number("max_1h", total, float("inf")),
        min_interval_hours=block.hours("min_interval", 0.0),
        duration_hours=block.hours("duration", 0.0),
        source=str(block.source),
        infusion=_route(name, replace(block.block("infusion"), path=block.path)) if "infusion" in block else None,
    )


def _amounts(block: Block) -> tuple[float, ...]:
    """The menu's doses."""
    usual = block.data.get("usual") or ()
    if not isinstance(usual, list | tuple) or not all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < float("inf") for x in usual
    ):
        raise ValueError(f"{block.path}.usual is {str(usual)[:80]}; expected a list of amounts; write usual: [2.5, 5]")
    return tuple(float(x) for x in usual)


def _compartments(common: Block, route: Block, metabolite: Block) -> Compartments:
    """One route's parameters: its own where it has them, else those all routes share."""
    common.expect(
        {"pathway", "renal", "poor_metaboliser", "clearance_sd", "volume_sd", "absorption_sd", "fraction_sd"}
        | {"clearance", "volume", "flow_2", "volume_2", "flow_3", "volume_3", "equilibration", *ROUTES}
    )
    units = {
        "clearance": ("L/h", None),
        "volume": ("L", None),
        "flow_2": ("L/h", 0.0),
        "volume_2": ("L", 1.0),
        "flow_3": ("L/h", 0.0),
        "volume_3": ("L", 1.0),
        "equilibration": ("1/h", 0.0),
        "absorption": ("1/h", 0.0),
        "lag": ("h", 0.0),
        "fraction": ("1", 1.0),
    }
    route.expect(set(units))
    values = {
        name: (route if name in route else common).number(name, unit, default)
        for name, (unit, default) in units.items()
    }
    if metabolite.data:
        values["metabolite_fraction"] = metabolite.number("fraction", "mg/mg")
        values["metabolite_clearance"] = metabolite.number("clearance", "L/h")
        values["metabolite_volume"] = metabolite.number("volume", "L")
        values["presystemic"] = metabolite.number("presystemic", "mg/mg", 0.0)
    return Compartments(**values)


def _metabolite(block: Block) -> Metabolite:
    block.expect(
        {"name", "molar_mass", "unbound", "fraction", "presystemic", "clearance", "volume", "channels"}
        | {"poor_metaboliser"}
    )
    return Metabolite(
        name=str(block.data.get("name")),
        molar_mass=block.number("molar_mass", "g/mol"),
        unbound=block.number("unbound", "1"),
        channels=_channels(block.block("channels")),
        poor_metaboliser=block.number("poor_metaboliser", "1", 1.0),
    )


def _channels(block: Block) -> dict[str, ChannelBlock]:
    """Channels of one molecule; a potency of the whole block holds where a channel has none of its own."""
    block.expect({*CHANNELS, "potency"})
    shared = block.number("potency", "1", 1.0)
    return {name: _channel(block.block(name), shared) for name in block.entries() if name != "potency"}


def _channel(block: Block, shared: float) -> ChannelBlock:
    block.expect({"ic50", "hill", "potency", "use_dependence"})
    return ChannelBlock(
        ic50_nm=_published(block, "ic50", "nM"),
        hill=_published(block, "hill", "1", 1.0),
        potency=block.number("potency", "1", shared),
        use_dependence=block.number("use_dependence", "1", 0.0),
    )


def _published(block: Block, key: str, unit: str, default: float | None = None) -> float:
    """A figure that stays within the ``low`` and ``high`` laboratories published, where they are given."""
    value, row = block.number(key, unit, default), block.data.get(key) or {}
    ends = [row.get(end, value) for end in ("low", "high")]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise ValueError(
            f"{block.path}.{key} has low and high {ends!r}; expected numbers in {unit}; give what was published, or "
            "leave them out"
        )
    low, high = map(float, ends)
    if not low <= value <= high:
        raise ValueError(
            f"{block.path}.{key} is {value:g} {unit}; expected the published {low:g} to {high:g}; "
            "put what is known of people into potency"
        )
    return value


def _list_of(block: Block, key: str) -> list[Any]:
    rows = block.data.get(key) or []
    if not isinstance(rows, list):
        raise ValueError(f"{block.path}.{key} is {str(rows)[:60]!r}; expected a list; begin each entry with a dash")
    return rows


def _law(drug: Block, index: int, data: Any) -> Law:
    block = Block.of(f"{drug.path}.laws[{index}]", data, drug)
    block.expect({"target", "emax", "ec50", "hill", "site"})
    target = _one_of(block.data.get("target"), tuple(LAW_UNITS), f"{block.path}.target")
    return Law(
        target=target,
        emax=block.number("emax", LAW_UNITS[target]),
        ec50=block.number("ec50", "ng/mL"),
        hill=block.number("hill", "1", 1.0),
        site=_one_of(block.data.get("site", "effect"), ("effect", "plasma", "metabolite"), f"{block.path}.site"),
    )


def _one_of(value: Any, allowed: tuple[str, ...], path: str) -> str:
    if value not in allowed:
        raise ValueError(f"{path} is {value!r}; expected one of {allowed}; check the spelling")
    return str(value)
