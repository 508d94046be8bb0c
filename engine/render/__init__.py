"""From a tree of files to the Kubernetes objects that a target wants.

Way of a build: `walk` finds what the build reads, `overlay` writes the target's own fields into the kustomization
file, `pool` and `worker` run the official kustomize in a sandbox, `postbuild` substitutes variables and normalises.
`renderer` puts these together, and lets targets with equal inputs share a build.
"""
