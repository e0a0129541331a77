.PHONY: environment demo reader check quick test test-slow lint image bench soak clean

# Many processes are started here: each would compile again all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# All that uv.lock has, in .venv.
environment:
	@.ci/environment --all-extras

# The main job on embedded defaults: three simulated exchanges into Parquet files under ./data.
demo:
	@.ci/environment --no-default-groups --extra launcher --extra collector --extra simulator
	@.venv/bin/launcher run deployments/quickstart.yaml --for 20s

# What docs/reading.md reads with: pandas, polars, duckdb, pyarrow and the stores' clients, in .venv.
reader:
	@.ci/environment --no-default-groups --extra collector --extra launcher --group reader

# What to run before every commit: the linters, and the tests that need no server and no engine.
check:
	@$(MAKE) --no-print-directory --jobs 2 lint quick

quick: environment
	@CRYPTOSTORE_TEST_PATH=/none .venv/bin/python -m pytest --quiet --numprocesses 4 --dist worksteal -r fE -m quick

# All tests that this machine can run, but the slow ones; the last lines say what it cannot.
test: environment
	@.venv/bin/python -m pytest --numprocesses 4 --dist worksteal --durations 15 -m "not alone and not slow"

# The files with tests of a mark: to collect all others as well takes a while.
marked = $(shell grep -rl --include='test_*.py' 'mark\.$(1)' tests | sort)

# The slow ones: what takes longest and proves least. What tests of a file share is made once.
# Then those that need the machine for themselves.
test-slow: environment
	@.venv/bin/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10 -m "slow and not alone" $(call marked,slow)
	@.venv/bin/python -m pytest -m alone $(call marked,alone)

lint: environment
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

# The promise, for long: faults and a long absence of each store; SOAK='--stores REDIS --minutes-away 1' shortens it.
soak: environment
	@cd tests && ../.venv/bin/python -m soak $(SOAK)

# How fast it is, beside cryptofeed; docs/performance.md explains the table. BENCH='--only cost --stores REDIS' measures a part.
bench: environment
	@cd tests && ../.venv/bin/python -m benchmarks $(BENCH)

image:
	docker build . --tag cryptostore:latest --build-arg REVISION="$$(git describe --always --dirty --exclude '*')"

clean:
	rm -rf .venv data .cryptostore
