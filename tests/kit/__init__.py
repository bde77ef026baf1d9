"""What tests in several rooms need: servers, brokers and databases, and waiting for something."""
