"""Rules in CEL that are wrong by themselves: the embedded cluster refuses the definition as the real server does."""

from typing import Any

from tests.cluster.embedded.beside import Beside, common
from tests.cluster.embedded.conftest import DEFINITIONS

TEXT = {"type": "string", "maxLength": 10}
FIELDS: dict[str, Any] = {
    "s": TEXT,
    "i": {"type": "integer"},
    "n": {"type": "number"},
    "b": {"type": "boolean"},
    "l": {"type": "array", "maxItems": 5, "items": TEXT},
    "m": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer"}},
    "o": {"type": "object", "properties": {"x-y": {"type": "integer"}, "s": TEXT}},
    "t": {"type": "string", "format": "date-time"},
    "d": {"type": "string", "format": "duration"},
    "y": {"type": "string", "format": "byte"},
    "port": {"x-kubernetes-int-or-string": True},
    "maybe": {**TEXT, "nullable": True},
}
WRONG = (
    *("self.s", "self.i", "self.t", "self.l", "'abc'", "1", "self.s == 'a' ? 'x' : 'y'"),
    *("self.i > 'a'", "self.s > 5", "self.i == self.s", "self.o.x__dash__y == 'a'", "self.y == 'a'", "self.t > 5"),
    *("self.i + self.n > 1", "self.s + 1 == 'a'", "self.s == null", "size(self.i) == 1", "self.d > 1"),
    *("self.l.all(x, x > 5)", "self.l[0] == 1", "self.m['a'] == 'x'", "self.m.all(k, k == 1)", "self.i in self.l"),
    *("self.s in [1, 2]", "self.s == 'a' ? true : 1", "self.b\\n  && self.s > 1"),
    *("self.s.matches('[')", "'a'.matches('a{2000}')", "self.s.find('[') == ''", "self.s.findAll(r'(') == []"),
    *("duration('x') == self.d", "timestamp('2020-13-01T00:00:00Z') < self.t"),
    *("self..s", "self.s ==", "foo(self.s)", "self.s.foo()", "has(self)", "has(self.nope)", "self.o.nope == 1"),
)
RIGHT = (
    *(
        "self.b",
        "!self.b || self.s == 'self.i'",
        "self.i > 1 && self.n < 1.5",
        "self.t > timestamp('2020-01-01T00:00:00Z')",
    ),
    *(
        "self.d < duration('1h30m')",
        "self.l.exists(x, x.startsWith('a'))",
        "self.m.all(k, self.m[k] > 1)",
        "has(self.s)",
    ),
    *("self.port == 5", "self.port == 'http'", "self.?s.orValue('') == 'a'", "oldSelf.s == self.s", "self.y == b'a'"),
    *(
        "self.s.matches('^[a-z]+$')",
        "self.o.x__dash__y > 1",
        "size(self.l) > 1",
        "dyn(self.s) == 1",
        "self.maybe == 'a'",
    ),
    *(
        "self.l == ['a']",
        "self.l.map(x, size(x)).sum() > 1",
        "type(self.s) == string",
        "has(self.o.s) && self.o.s == 'a'",
    ),
)
MESSAGES = ("self.i", "self.s + 1", "'a' +", "'it is ' + self.s")


def definition(rule: str, message: str = "") -> Any:
    validation = {"rule": rule, **({"messageExpression": message} if message else {})}
    spec = {"type": "object", "properties": FIELDS, "x-kubernetes-validations": [validation]}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"plural": "ruled", "kind": "Ruled"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    whole = {"group": "rules.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "ruled.rules.example.com"}, "spec": whole}


async def test_a_rule_that_is_wrong_by_itself_is_refused(beside: Beside) -> None:
    for rule in WRONG:
        real = await beside.same("POST", f"{DEFINITIONS}?dryRun=All", definition(rule))
        assert real.status == 422, rule
    assert not beside.differences, "\n".join(beside.differences)


async def test_what_gives_a_message_is_a_text(beside: Beside) -> None:
    for message in MESSAGES:
        real, ours = await beside.both("POST", f"{DEFINITIONS}?dryRun=All", definition("self.i > 1", message))
        assert ours.status == real.status, message
        assert real.status == 201 or common(ours) == common(real)


async def test_a_rule_that_is_right_is_taken(beside: Beside) -> None:
    for rule in RIGHT:
        pair = await beside.both("POST", f"{DEFINITIONS}?dryRun=All", definition(rule))
        assert [one.status for one in pair] == [201, 201], (rule, [one.body for one in pair])
