"""Settings: the same tree from keywords, mappings and TOML, and errors that say where."""

from __future__ import annotations

import pytest

import hybridcore as hc
from hybridcore.settings import Disk, Settings, _variables

TOML = """
strategy = "cache_aside"

[memory]
maxsize = "64MiB"
low_water = 0.9
weights = { recency = 1, frequency = 0 }
adaptive = { objective = "cost_saved" }

[disk]
directory = "entries"
max_bytes = "16MiB"
durability = "none"
sweep = "none"
admission = { reject_first = false, max_size = "1MiB" }

[defaults]
ttl = "10m"
stale = "1h"

[rules."repo:{owner}/{name}"]
ttl = "1d"
refresh_ahead = 0.8

[rules."session:*"]
ttl = "none"

[features]
warming = false
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, **environ: str) -> Settings:
        (tmp_path / "cache.toml").write_text(text)
        return Settings.load("cache.toml", environ=environ)

    return load


def test_toml(load):
    """Every section is read, durations and sizes in words included."""
    assert load(TOML) == Settings(
        strategy="cache_aside",
        memory=hc.Memory(
            "64MiB",
            low_water=0.9,
            weights=hc.Weights(1, 0),
            adaptive=hc.Adaptive(objective="cost_saved"),
        ),
        disk=Disk(
            directory="entries",
            max_bytes="16MiB",
            durability="none",
            sweep=None,
            admission=hc.Admission(reject_first=False, max_size="1MiB"),
        ),
        defaults=hc.EntryOptions(ttl=600, stale=3600),
        rules={
            "repo:{owner}/{name}": hc.EntryOptions(ttl="1d", refresh_ahead=0.8),
            "session:*": hc.EntryOptions(ttl=None),
        },
        features={"warming": False},
    )


def test_cache_of_settings(load):
    """A hybrid cache is made of a file, a mapping or settings, and works."""
    settings = load(TOML)
    for given in ("cache.toml", settings, {"disk": {"directory": "entries"}}):
        with hc.HybridCache.from_settings(given) as store:
            store.put("a", 1)
            assert store.get("a") == 1
            assert store.stats().disk.entries == 1
    with hc.HybridCache.from_settings(settings) as store:
        assert store.rules.of("repo:a/b").ttl == 86400
        assert store.rules.of("repo:a/b").stale == 3600
        assert store.rules.of("session:x") == hc.EntryOptions(ttl=None)
        assert store.rules.of("else").ttl == 600
        assert not store.features.is_enabled("warming")


def test_disk_is_closed_when_the_rest_fails(load):
    """Settings that turn out wrong after the disk was opened leave nothing open."""
    with pytest.raises(hc.ConfigurationError, match="origin that takes writes"):
        hc.HybridCache.from_settings(
            {"strategy": "write_through", "disk": {"directory": "d", "durability": "none"}}
        )
    with hc.Lmdb("d", durability="none") as disk:
        assert len(disk) == 0


def test_environment(load):
    """Variables go before the file; they make the sections they need."""
    settings = load(
        TOML,
        HYBRIDCORE_MEMORY_MAXSIZE="1000",
        HYBRIDCORE_MEMORY_ADAPTIVE_SEED="7",
        HYBRIDCORE_DISK_MAX_BYTES="1GiB",
        HYBRIDCORE_DISK_ADMISSION_REJECT_FIRST="yes",
        HYBRIDCORE_DEFAULTS_TTL="90",
        HYBRIDCORE_DEFAULTS_NEGATIVE_TTL="5s",
        HYBRIDCORE_FEATURES_DISK="off",
        HYBRIDCORE_DISABLE="whatever, it is not ours",
        OTHER="x",
    )
    assert settings.memory.maxsize == 1000
    assert settings.memory.adaptive == hc.Adaptive(objective="cost_saved", seed=7)
    assert settings.disk.max_bytes == "1GiB"
    assert settings.disk.admission == hc.Admission(max_size="1MiB")
    assert (settings.defaults.ttl, settings.defaults.negative_ttl) == (90, 5)
    assert settings.features == {"warming": False, "disk": False}
    assert load("", HYBRIDCORE_DISK_DIRECTORY="d").disk == Disk(directory="d")
    assert load("", HYBRIDCORE_DISK_DIRECTORY="d", HYBRIDCORE_DISK_SWEEP="none").disk.sweep is None


def test_variables_are_told_apart():
    """No two keys have the same variable."""
    names = [name for name, _ in _variables(Settings, ())]
    assert len(set(names)) == len(names)
    assert "HYBRIDCORE_STRATEGY" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[memroy]\nmaxsize = 5",
            "cache.toml: there is no key 'memroy' here; did you mean 'memory'?",
        ),
        (
            "[memory]\nmax_size = 5",
            "cache.toml: memory: there is no key 'max_size' here; did you mean 'maxsize'?",
        ),
        (
            "[disk]\ndirectory = 'd'\n[disk.admission]\nxyzzy = 1",
            "cache.toml: disk.admission: there is no key 'xyzzy' here; there are reject_first, ",
        ),
        ("[disk]\nmax_bytes = 5", "cache.toml: disk.directory: is missing, and has no default"),
        (
            "[disk]\ndirectory = 5",
            "cache.toml: disk.directory: expected text, got 5 (int)",
        ),
        (
            "[memory]\nmaxsize = '5 parsecs'",
            'cache.toml: memory.maxsize: expected a size such as 1048576, "64KiB" or "8GiB", '
            "got '5 parsecs'",
        ),
        (
            "[memory]\nmaxsize = 5\nlow_water = true",
            "memory.low_water: expected a number, got True",
        ),
        (
            "[defaults]\nttl = '5 parsecs'",
            "cache.toml: defaults.ttl: expected a duration such as 30",
        ),
        ("[defaults]\nstale = 5", "stale=5 has no meaning without a ttl"),
        ("[defaults]\nttl = 'none'\nstale = 5", "cache.toml: defaults: stale=5 has no meaning"),
        (
            "[rules.'a:{b}']\nstael = 5",
            "rules.\"a:{b}\": there is no key 'stael' here; did you mean",
        ),
        ("[rules.'a:{b']\nttl = 5", "cache.toml: the key pattern 'a:{b' is malformed"),
        ("[rules.'a:{b}']\nstale = 5", "the rule for 'a:{b}': stale=5 has no meaning"),
        (
            "[rules]\nttl = 5",
            "cache.toml: rules.ttl: expected a table with keys such as ttl, got 5",
        ),
        (
            "[features]\nwarmin = true",
            "features: there is no key 'warmin' here; did you mean 'warming'",
        ),
        ("[features]\nwarming = 1", "features.warming: expected true or false, got 1 (int)"),
        ("strategy = 'write_trough'", "strategy: expected one of read_through, write_through, "),
        ("memory = 5", "cache.toml: memory: expected a table with keys such as maxsize, got 5"),
        ("memory = 'none'", "without memory and disk holds nothing"),
        (
            "[memory]\nmaxsize = 5\ngetsizeof = 'len'",
            "memory.getsizeof: can be given in Python only",
        ),
        (
            "[memory]\nmaxsize = 5\nweights = { recency = 9 }",
            "memory.weights: the weight of recency",
        ),
        ("[memory", "cache.toml: "),
    ],
)
def test_refusals(load, text, message):
    """An error names the file, the section and the key, what was expected and what came."""
    with pytest.raises(hc.ConfigurationError) as error:
        load(text)
    assert message in str(error.value)
    assert str(error.value).startswith("cache.toml: ") or not text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "HYBRIDCORE_MEMORY_MAXSIZ",
            "5",
            "there is no environment variable HYBRIDCORE_MEMORY_MAXSIZ; ",
        ),
        (
            "HYBRIDCORE_MEMORY_LOW_WATER",
            "x",
            "HYBRIDCORE_MEMORY_LOW_WATER: expected a number, got 'x'",
        ),
        ("HYBRIDCORE_FEATURES_DISK", "maybe", "HYBRIDCORE_FEATURES_DISK: expected true or false"),
        (
            "HYBRIDCORE_DISK_MAX_BYTES",
            "1 GiBi",
            "HYBRIDCORE_DISK_MAX_BYTES: expected a size such as",
        ),
    ],
)
def test_refused_variables(load, name, value, message):
    """An error in a variable names the variable."""
    with pytest.raises(hc.ConfigurationError) as error:
        load("[memory]\nmaxsize = 5\n[disk]\ndirectory = 'd'", **{name: value})
    assert str(error.value).startswith(message)


def test_keywords():
    """In Python a section is an object or a mapping, and functions may be given."""
    settings = Settings(memory={"maxsize": 10, "getsizeof": len})
    assert settings.memory == hc.Memory(10, len)
    assert Settings(rules={("user", "{id:int}"): {"ttl": 5}}).rules == {
        ("user", "{id:int}"): hc.EntryOptions(ttl=5)
    }
    with pytest.raises(hc.ConfigurationError, match=r"^memory: expected a table"):
        Settings(memory=10)
    with pytest.raises(hc.ConfigurationError, match="cannot be None"):
        Settings(defaults=None)
    with pytest.raises(TypeError):
        Settings(memroy=None)


def test_guards_need_an_origin():
    """A breaker without an origin is refused."""
    settings = Settings.of(
        {"breaker": {"failures": 3, "open_for": "30s"}, "retry": {"attempts": 2}}
    )
    assert settings.breaker.open_for == 30
    with pytest.raises(hc.ConfigurationError, match="breaker and retry guard an origin"):
        hc.HybridCache.from_settings(settings)
    with hc.HybridCache.from_settings(settings, str.upper) as store:
        assert store.get("a") == "A"
