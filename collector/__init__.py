"""Records an exchange in a store. Runs inside the container; knows nothing of the launcher."""

from collector import yapic_json

yapic_json.install()  # before cryptofeed is imported, which only the modules of this package do
