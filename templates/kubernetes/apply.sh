#!/bin/sh
# Apply fleet {{ fleet.name }} wave by wave, as `parallelism` in its fleet file says; `launcher render` made this script.
# If a collector does not become ready, it stops, and those of later waves stay as they are.
#
#   sh apply.sh                            # takes options of kubectl, such as --context
#   KUSTOMIZATION=../staging sh apply.sh   # an overlay of this folder
#   TIMEOUT=10m sh apply.sh                # for each collector; 5m by default
set -eu
folder=${KUSTOMIZATION:-$(dirname "$0")}
kubectl apply --kustomize "$folder" --selector '!{{ wave }}' "$@"
for wave in {{ range(waves) | join(" ") }}; do
    objects=$(kubectl apply --kustomize "$folder" --selector "{{ wave }}=$wave" --output name "$@")
    for object in $objects; do
        echo "wave $wave: $object"
        kubectl rollout status "$object" --timeout "${TIMEOUT:-5m}" "$@"
    done
done
