"""Where a field is written."""

import pytest

from tidelog.engine.render.lines import line_of_field

TEXT = """\
kind: ConfigMap
metadata: {name: first}
---
kind: Deployment
spec:
  template:
    metadata:
      annotations:
        example.org/a.b: x
    spec:
      containers:
        - name: web
          image: nginx
        - image: redis
          name: cache
          ports:
            - containerPort: 80
              protocol: TCP
---
items:
  - kind: Service
    spec:
      ports:
        - port: x
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("spec", 5),
        (".spec.template.spec.containers", 11),
        ("spec.template.spec.containers[1]", 14),
        ("spec.template.spec.containers[1].ports[0].protocol", 18),
        ('spec.template.spec.containers[name="cache"].image', 14),
        ('spec.template.spec.containers[name="cache"].ports[containerPort="80",protocol="TCP"].protocol', 18),
        ('spec.template.spec.containers[name="cache"].ports[containerPort=80,protocol="TCP"].protocol', 18),
        ('spec.template.spec.containers["cache"].image', None),
        ("spec.template.spec.containers.image", 11),
        ('spec.template.metadata.annotations["example.org/a.b"]', 9),
        ("spec.template.metadata.annotations[example.org/a.b]", 9),
        ("spec.template.spec.containers[0].command", 12),  # missing: where it would be
        ("spec.replicas.x", None),
        ("status", None),
        ("", None),
    ],
)
def test_the_line_of_a_field(path: str, line: int | None) -> None:
    assert line_of_field(TEXT, 4, None, path) == line


def test_the_line_in_a_list_of_objects_and_of_a_document_that_is_not_there() -> None:
    assert line_of_field(TEXT, 20, 0, "spec.ports[0].port") == 24
    assert line_of_field(TEXT, 3, None, "spec") is None
