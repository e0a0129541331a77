.PHONY: demo test lint image bench soak clean

# Many processes are started here: each would compile again all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# The main job on embedded defaults: three simulated exchanges into Parquet files under ./data.
demo:
	@.ci/environment --no-default-groups --extra launcher --extra collector --extra simulator
	@.venv/bin/launcher run deployments/quickstart.yaml --for 20s

# Everything that this machine can run; the last lines say what it cannot.
test:
	@.ci/environment --all-extras
	@.venv/bin/python -m pytest --numprocesses 4 --dist worksteal -m "not alone"
	@.venv/bin/python -m pytest -m alone

lint:
	@.ci/environment --all-extras
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

# The promise, for long: faults and a long absence of each store; SOAK='--stores REDIS --minutes-away 1' shortens it.
soak:
	@.ci/environment --all-extras
	@cd tests && ../.venv/bin/python -m soak $(SOAK)

# How fast it is, beside cryptofeed; docs/performance.md explains the table. BENCH='--only cost --stores REDIS' measures a part.
bench:
	@.ci/environment --all-extras
	@cd tests && ../.venv/bin/python -m benchmarks $(BENCH)

image:
	docker build . --tag cryptostore:latest --build-arg REVISION="$$(git describe --always --dirty --exclude '*')"

clean:
	rm -rf .venv data .cryptostore
