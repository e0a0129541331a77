.PHONY: demo test lint image bench clean

# The main job on embedded defaults: three simulated exchanges into Parquet files under ./data.
demo:
	@.ci/environment --no-default-groups --extra launcher --extra collector --extra simulator
	@.venv/bin/launcher run deployments/quickstart.yaml --for 20s

# Everything that this machine can run; the last lines say what it cannot.
test:
	@.ci/environment --all-extras
	@.venv/bin/python -m pytest --numprocesses 4 --dist worksteal

lint:
	@.ci/environment --all-extras
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

image:
	docker build . --tag cryptostore:latest

clean:
	rm -rf .venv data .cryptostore
