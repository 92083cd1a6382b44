"""What runs on the nodes themselves. Nothing here imports anything of certify."""
