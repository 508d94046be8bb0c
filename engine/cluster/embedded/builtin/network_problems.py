"""What the server refuses in network policies and Ingresses (`pkg/apis/networking/validation`)."""

from ipaddress import ip_address, ip_network
from typing import Final

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats
from tidelog.engine.cluster.embedded.builtin.checks import needed, one_of
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_NO_CIDR: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def network_policy(obj: KubeObject) -> list[Cause]:
    """Of a NetworkPolicy."""
    spec = obj.get("spec") or {}
    found = checks.selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                found += _port(port, f"{at}.ports[{number}]")
            for number, peer in enumerate(rule.get(peers) or ()):
                found += _peer(peer, f"{at}.{peers}[{number}]")
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        return [*found, causes.invalid("spec.policyTypes", kinds, "may not specify more than two policyTypes")]
    for index, kind in enumerate(kinds):
        if kind not in ("Ingress", "Egress"):
            found.append(causes.not_supported(f"spec.policyTypes[{index}]", kind, ["Ingress", "Egress"]))
    return found


def _port(port: KubeObject, at: str) -> list[Cause]:
    found = one_of(port, at, "protocol", "TCP", "UDP", "SCTP")
    first, last = port.get("port"), port.get("endPort")
    if first is not None:
        found += checks.port_or_name(first, f"{at}.port")
    if last is None:
        return found
    where = f"{at}.endPort"
    if first is None:
        return [*found, causes.invalid(where, last, "may not be specified when `port` is not specified")]
    if not isinstance(first, int):
        return [*found, causes.invalid(where, last, "may not be specified when `port` is non-numeric")]
    if last < first:
        return [*found, causes.invalid(where, first, "must be greater than or equal to `port`")]
    return found + [causes.invalid(where, last, one) for one in formats.port_number(last)]


def _peer(peer: KubeObject, at: str) -> list[Cause]:
    names = [one for one in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(one) is not None]
    if not names:
        return [causes.required(at, "must specify a peer")]
    if "ipBlock" in names and len(names) > 1:
        return [causes.forbidden(at, "may not specify both ipBlock and another peer")]
    if "ipBlock" in names:
        return _block(peer["ipBlock"], f"{at}.ipBlock")
    return [cause for one in names for cause in checks.selector(peer[one], f"{at}.{one}")]


def _block(block: KubeObject, at: str) -> list[Cause]:
    text = block.get("cidr") or ""
    if not text:
        return [causes.required(f"{at}.cidr")]
    whole = _network(text)
    if whole is None:
        return [causes.invalid(f"{at}.cidr", text, _NO_CIDR)]
    found: list[Cause] = []
    for index, one in enumerate(block.get("except") or ()):
        part, where = _network(one), f"{at}.except[{index}]"
        if part is None:
            found.append(causes.invalid(where, one, _NO_CIDR))
        elif part[1] <= whole[1] or part[0] not in ip_network(f"{whole[0]}/{whole[1]}", strict=False):
            found.append(causes.invalid(where, one, "must be a strict subset of `cidr`"))
    return found


def _network(text: str) -> tuple[object, int] | None:
    """An address, and how many of its bits name a network; None for what is none."""
    address, slash, bits = text.partition("/")
    try:
        network, first = ip_network(text, strict=False), ip_address(address)
    except ValueError:
        return None
    return (first, network.prefixlen) if slash and bits.isdigit() else None


def ingress(obj: KubeObject) -> list[Cause]:
    """Of an Ingress."""
    spec, found = obj.get("spec") or {}, list[Cause]()
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        found.append(causes.invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        found += _backend(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(spec.get("rules") or ()):
        at = f"spec.rules[{index}]"
        found += _host(rule.get("host") or "", f"{at}.host")
        if rule.get("http") is not None:
            found += needed(rule["http"], f"{at}.http", "paths")
            for number, path in enumerate(rule["http"].get("paths") or ()):
                found += _path(path, f"{at}.http.paths[{number}]")
    for index, one in enumerate(spec.get("tls") or ()):
        at = f"spec.tls[{index}]"
        for number, host in enumerate(one.get("hosts") or ()):
            found += _name_of_host(host, f"{at}.hosts[{number}]")
        found += checks.form(one, at, "secretName", formats.dns_subdomain)
    name = spec.get("ingressClassName")
    wrong = [] if name is None else formats.dns_subdomain(name)
    return found + [causes.invalid("spec.ingressClassName", name, one) for one in wrong]


def _host(host: str, at: str) -> list[Cause]:
    try:
        ip_address(host)
    except ValueError:
        return _name_of_host(host, at) if host else []
    return [causes.invalid(at, host, "must be a DNS name, not an IP address")]


def _name_of_host(host: str, at: str) -> list[Cause]:
    check = formats.wildcard_subdomain if "*" in host else formats.dns_subdomain
    return [causes.invalid(at, host, one) for one in check(host)]


def _path(path: KubeObject, at: str) -> list[Cause]:
    kind, text, found = path.get("pathType"), path.get("path", ""), list[Cause]()
    if kind is None:
        return [causes.required(f"{at}.pathType", "pathType must be specified")]
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            found.append(causes.invalid(f"{at}.path", text, "must be an absolute path"))
        bad = [one for one in ("//", "/./", "/../", "%2f", "%2F") if one in text]
        found += [causes.invalid(f"{at}.path", text, f"must not contain '{one}'") for one in bad]
        ends = [one for one in ("/..", "/.") if text.endswith(one)]
        found += [causes.invalid(f"{at}.path", text, f"cannot end with '{one}'") for one in ends]
    elif kind != "ImplementationSpecific":
        supported = ["Exact", "ImplementationSpecific", "Prefix"]
        found.append(causes.not_supported(f"{at}.pathType", kind, supported))
    elif text and not text.startswith("/"):
        found.append(causes.invalid(f"{at}.path", text, "must be an absolute path"))
    return found + _backend(path.get("backend") or {}, f"{at}.backend")


def _backend(backend: KubeObject, at: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [causes.invalid(at, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _resource(resource, f"{at}.resource")
    if service is None:
        return [causes.invalid(at, "", "resource or service backend is required")]
    found = needed(service, f"{at}.service", "name")
    found += checks.form(service, f"{at}.service", "name", formats.service_name)
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        found.append(causes.invalid(at, "", "cannot set both port name & port number"))
    elif port.get("name"):
        found += checks.form(port, f"{at}.service.port", "name", formats.port_name)
    elif port.get("number"):
        wrong = formats.port_number(port["number"])
        found += [causes.invalid(f"{at}.service.port.number", port["number"], one) for one in wrong]
    else:
        found.append(causes.required(at, "port name or number is required"))
    return found


def _resource(resource: KubeObject, at: str) -> list[Cause]:
    found = checks.form(resource, at, "apiGroup", formats.dns_subdomain)
    for field in ("kind", "name"):
        found += needed(resource, at, field) or checks.form(resource, at, field, formats.path_segment)
    return found
