"""Kustomization trees at random: bases upon bases, components, patches, generators, transformers, and files that
nothing names."""

import json
import random
from typing import Any

from tidelog.engine.render.spec import CommonMetadata, Image, Patch, RenderSpec, Selector

NAMES = ("web", "api", "db", "queue")
FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


def random_tree(rng: random.Random) -> tuple[dict[str, str], RenderSpec]:
    """Files, and the spec of a target that builds one of the directories."""
    return _Maker(rng).make()


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.files: dict[str, str] = {}
        self.number = 0

    def make(self) -> tuple[dict[str, str], RenderSpec]:
        for number in range(self.rng.randint(0, 3)):
            self.files[f"unread/{number}.yaml"] = _configmap(f"unread-{number}")
        self.files["README.md"] = "nothing\n"
        if self.rng.random() < 0.25:
            path = "plain"
            self.plain(path)
        else:
            path = self.directory(depth=0, component=False)
        return self.files, self.spec(path)

    def plain(self, path: str) -> None:
        """A directory without kustomization file."""
        for name in self.rng.sample(["a.yaml", "b.yml", "deep/c.yaml", "deep/er/d.yaml", "z.txt", "e.json"], 4):
            self.files[f"{path}/{name}"] = self.object()
        if self.chance(0.5):
            nested = f"{path}/nested"
            self.files[f"{nested}/kustomization.yaml"] = "resources: [x.yaml, ../../beside]\n"
            self.files[f"{nested}/x.yaml"] = self.object()
            self.files["beside/kustomization.yaml"] = "resources: [y.yaml]\n"
            self.files["beside/y.yaml"] = self.object()

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def directory(self, depth: int, *, component: bool) -> str:
        path = "/".join(["dir", *self.rng.choices(["a", "b"], k=self.rng.randint(0, 2)), f"k{self.fresh()}"])
        content: dict[str, Any] = {}
        if component:
            content |= {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
        resources = []
        for _ in range(self.rng.randint(1, 3)):  # without any, a component may be empty, which is an error
            name = f"r{self.fresh()}.yaml"
            place = self.rng.choice(["", "sub/", "../shared/"])
            self.put(path, place + name, self.object())
            resources.append(place + name)
        if depth < 2 and self.chance(0.6):
            resources.append(self.relative(path, self.directory(depth + 1, component=False)))
        if resources:
            content["resources"] = self.rng.sample(resources, len(resources))
        if depth < 2 and self.chance(0.3):
            content["components"] = [self.relative(path, self.directory(depth + 1, component=True))]
        self.patches(path, content)
        self.generators(path, content)
        self.plain_fields(content)
        self.transformers(path, content)
        text = json.dumps(content, indent=1) if self.chance(0.3) else _yaml(content)
        self.files[f"{path}/{self.rng.choice(FILE_NAMES)}"] = text
        return path

    def patches(self, path: str, content: dict[str, Any]) -> None:
        annotate = json.dumps([{"op": "add", "path": "/metadata/annotations", "value": {"p": str(self.fresh())}}])
        if self.chance(0.3):
            name = f"patch{self.fresh()}.yaml"
            self.put(path, name, annotate)
            content["patches"] = [
                {"path": name, "target": {"kind": "ConfigMap"}},
                {"patch": annotate, "target": {"kind": "Service"}},
            ]
        if self.chance(0.15):
            name = f"ops{self.fresh()}.json"
            self.put(path, name, annotate)
            content["patchesJson6902"] = [
                {"path": name, "target": {"version": "v1", "kind": "ConfigMap", "name": ".*"}}
            ]
            content.pop("patchesJson6902")  # needs exact names
            content.setdefault("patches", []).append({"path": name, "target": {"kind": "Secret"}})

    def generators(self, path: str, content: dict[str, Any]) -> None:
        for field in ("configMapGenerator", "secretGenerator"):
            if self.chance(0.3):
                number = self.fresh()
                self.put(path, f"conf/{number}.txt", f"text {number}\n")
                self.put(path, f"conf/{number}.env", f"A={number}\nB=2\n")
                content[field] = [
                    {
                        "name": f"generated-{number}",
                        "files": [f"conf/{number}.txt", f"renamed=conf/{number}.txt"],
                        "envs": [f"conf/{number}.env"],
                        "literals": ["c=3"],
                    }
                ]
                if self.chance(0.5):
                    content["generatorOptions"] = {"disableNameSuffixHash": self.chance(0.5)}

    def plain_fields(self, content: dict[str, Any]) -> None:
        rng = self.rng
        for field, value in (
            ("namespace", rng.choice(["shop", "ops"])),
            ("namePrefix", "pre-"),
            ("nameSuffix", "-suf"),
            ("commonAnnotations", {"note": "yes"}),
            ("labels", [{"pairs": {"team": "one"}, "includeSelectors": rng.random() < 0.5}]),
            (
                "images",
                [{"name": "nginx", "newTag": "1.2"}, {"name": "busybox", "newName": "other", "digest": _DIGEST}],
            ),
            ("replicas", []),
            ("buildMetadata", ["originAnnotations"]),
        ):
            if self.chance(0.2):
                content[field] = value  # noqa: PERF403 - each draws a number

    def transformers(self, path: str, content: dict[str, Any]) -> None:
        if self.chance(0.15):
            number = self.fresh()
            self.put(path, f"t/{number}.yaml", _TRANSFORMER.format(number=number))
            self.put(path, f"t{number}.yaml", '[{"op": "add", "path": "/metadata/annotations", "value": {"t": "1"}}]')
            content["transformers"] = [f"t/{number}.yaml"]

    def put(self, directory: str, path: str, text: str) -> None:
        parts = directory.split("/")
        for part in path.split("/"):
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        self.files["/".join(parts)] = text

    def relative(self, source: str, target: str) -> str:
        return "../" * (source.count("/") + 1) + target

    def object(self) -> str:
        number = self.fresh()
        name = f"{self.rng.choice(NAMES)}-{number}"
        return self.rng.choice([_configmap, _service, _deployment, _secret, _two])(name)

    def spec(self, path: str) -> RenderSpec:
        rng = self.rng
        patch = json.dumps([{"op": "add", "path": "/metadata/annotations", "value": {"flux": "1"}}])
        components = []
        if self.chance(0.2):
            components.append("../" * (path.count("/") + 1) + "extra")
            if self.chance(0.5):
                self.files["extra/kustomization.yaml"] = _yaml(
                    {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "namePrefix": "extra-"}
                )
        return RenderSpec(
            path=rng.choice(["./", "", "/"]) + path,
            target_namespace=rng.choice(["", "", "target"]),
            name_prefix=rng.choice(["", "", "p-"]),
            name_suffix=rng.choice(["", "", "-s"]),
            patches=(Patch(patch, Selector(kind="Deployment")),) if self.chance(0.3) else (),
            images=(Image("nginx", new_tag="9"), Image("busybox", new_name="third")) if self.chance(0.3) else (),
            components=tuple(components),
            ignore_missing_components=bool(components),
            build_metadata=("originAnnotations",) if self.chance(0.1) else (),
            common_metadata=CommonMetadata(labels={"common": "1"}) if self.chance(0.2) else None,
        )


_DIGEST = "sha256:" + "ab" * 32
_TRANSFORMER = """apiVersion: builtin
kind: PatchTransformer
metadata:
  name: t{number}
target:
  kind: ConfigMap
path: t{number}.yaml
"""


def _yaml(content: dict[str, Any]) -> str:
    """Block style at the top, JSON below."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in content.items())


def _configmap(name: str) -> str:
    return f"""apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
data:
  on: 'yes'
  n: "1"
  t: |
    a
    b
"""


def _secret(name: str) -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n  password: hunter2\n"


def _service(name: str) -> str:
    return f"""apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  ports:
  - port: 80
  selector: {{app: {name}}}
"""


def _deployment(name: str) -> str:
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
      - name: main
        image: nginx:1.0
        ports:
        - containerPort: 8080
      - name: side
        image: busybox
"""


def _two(name: str) -> str:
    return _configmap(f"{name}-a") + "---\n" + _service(f"{name}-b")
