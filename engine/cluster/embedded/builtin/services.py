"""Services: addresses and ports that the server gives, and keeps when an update leaves them out.

Given by the object's uid and not taken from a pool: the same object gets the same ones in every run.
"""

import hashlib
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from tidelog.engine.objects.kube import KubeObject

SERVICE_NETWORK: Final = IPv4Network("10.96.0.0/12")
NODE_PORTS: Final = range(30000, 32768)
HEADLESS: Final = "None"


def prepare_create(service: KubeObject) -> None:
    """Gives a new service its addresses and ports."""
    spec = service["spec"]
    _pair_addresses(spec)
    _give_addresses(service)
    _give_ports(service)


def prepare_update(new: KubeObject, old: KubeObject) -> None:
    """Keeps what was given and is not said, and drops what the type no longer has."""
    spec, before = new["spec"], old["spec"]
    if needs_address(before) and needs_address(spec):
        spec["clusterIP"] = spec.get("clusterIP") or before.get("clusterIP", "")
        spec["clusterIPs"] = spec.get("clusterIPs") or list(before.get("clusterIPs") or ())
    if needs_ports(before) and needs_ports(spec):
        _keep_ports(spec, before)
    if _needs_health_port(before) and _needs_health_port(spec):
        spec["healthCheckNodePort"] = spec.get("healthCheckNodePort") or before.get("healthCheckNodePort", 0)
    _pair_addresses(spec, before)
    _drop_for_type(new, old)
    if spec.get("ipFamilyPolicy") is None and needs_address(spec) and before.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = before["ipFamilyPolicy"]
    _give_addresses(new)
    _give_ports(new)


def needs_address(spec: KubeObject) -> bool:
    """Whether the type has a cluster address, be it None."""
    return spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_ports(spec: KubeObject) -> bool:
    """Whether its ports are opened on nodes."""
    is_balanced = spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    return spec.get("type") == "NodePort" or bool(is_balanced)


def is_external(spec: KubeObject) -> bool:
    """Whether it can be reached from outside the cluster."""
    by_address = spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs"))
    return spec.get("type") in ("NodePort", "LoadBalancer") or by_address


def needs_two_families(spec: KubeObject) -> bool:
    """Whether it asks for what the cluster has not: addresses of both families."""
    is_open = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    return spec.get("ipFamilyPolicy") == "RequireDualStack" and spec.get("type") != "ExternalName" and not is_open


def _needs_health_port(spec: KubeObject) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _pair_addresses(spec: KubeObject, before: KubeObject | None = None) -> None:
    """`clusterIP` is the first of `clusterIPs`; who knows only the one must not contradict the other."""
    first, each = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if before is None:
        if first and not each:
            spec["clusterIPs"] = [first]
        return
    was, were = before.get("clusterIP", ""), before.get("clusterIPs") or []
    if first != was and each == were:
        if not first:
            spec.pop("clusterIPs", None)
        else:
            spec["clusterIPs"] = [first]
    elif not first and was and not each:
        spec.pop("clusterIPs", None)


def _give_addresses(service: KubeObject) -> None:
    spec = service["spec"]
    if not needs_address(spec):
        return
    is_open = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if is_open else "SingleStack")
    if not spec.get("ipFamilies"):
        spec["ipFamilies"] = ["IPv6" if ":" in str(spec.get("clusterIP")) else "IPv4"]
    if is_open and policy != "SingleStack" and len(spec["ipFamilies"]) == 1:
        spec["ipFamilies"] = [*spec["ipFamilies"], "IPv6" if spec["ipFamilies"] == ["IPv4"] else "IPv4"]
    if not spec.get("clusterIP"):
        spec["clusterIP"] = _address(service)
        spec["clusterIPs"] = [spec["clusterIP"]]


def _give_ports(service: KubeObject) -> None:
    spec = service["spec"]
    if not needs_ports(spec):
        return
    ports = [port for port in spec.get("ports") or () if isinstance(port, dict)]
    taken = {port["nodePort"] for port in ports if port.get("nodePort")}
    for index, port in enumerate(ports):
        shared = next(
            (
                other["nodePort"]
                for other in ports[:index]
                if other.get("port") == port.get("port")
                and other.get("protocol") != port.get("protocol")
                and other.get("nodePort")
            ),
            0,
        )
        if not port.get("nodePort"):
            port["nodePort"] = shared or _port(service, f"{index}", taken)
            taken.add(port["nodePort"])
    if _needs_health_port(spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = _port(service, "health", taken)


def _keep_ports(spec: KubeObject, before: KubeObject) -> None:
    ports, were = spec.get("ports") or [], before.get("ports") or []
    used = {port.get("nodePort") for port in were} & {port.get("nodePort") for port in ports}
    by_name = {port.get("name", ""): port.get("nodePort", 0) for port in were}
    for port in ports:
        was = by_name.get(port.get("name", ""), 0)
        if not port.get("nodePort") and was and was not in used:
            port["nodePort"] = was


def _drop_for_type(new: KubeObject, old: KubeObject) -> None:
    spec, before = new["spec"], old["spec"]
    if needs_address(before) and not needs_address(spec):
        _drop_same(spec, before, "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if not spec.get("clusterIPs"):
            spec.pop("clusterIP", None)
    if needs_ports(before) and not needs_ports(spec):
        ports = {port.get("nodePort") for port in before.get("ports") or ()}
        if {port.get("nodePort") for port in spec.get("ports") or ()} == ports:
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
    if _needs_health_port(before) and not _needs_health_port(spec):
        _drop_same(spec, before, "healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        _drop_same(spec, before, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_external(before) and not is_external(spec):
        _drop_same(spec, before, "externalTrafficPolicy")
    if spec.get("type") != "LoadBalancer" and isinstance(new.get("status"), dict):
        new["status"]["loadBalancer"] = {}


def _drop_same(spec: KubeObject, before: KubeObject, *fields: str) -> None:
    for field in fields:
        if spec.get(field) == before.get(field):
            spec.pop(field, None)


def _address(service: KubeObject) -> str:
    """Neither the first one, which is the API server's, nor the last."""
    offset = 2 + _number(service, "address") % (SERVICE_NETWORK.num_addresses - 3)
    return str(IPv4Address(int(SERVICE_NETWORK.network_address) + offset))


def _port(service: KubeObject, what: str, taken: set[Any]) -> int:
    start = _number(service, what) % len(NODE_PORTS)
    free = (NODE_PORTS[(start + step) % len(NODE_PORTS)] for step in range(len(NODE_PORTS)))
    return next(port for port in free if port not in taken)


def _number(service: KubeObject, what: str) -> int:
    said = f"{service['metadata'].get('uid', '')}/{what}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8])
